"""Specs are merged from a file, its bases and the command line, and know where every value came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import SpecError, UsageError
from autosparse.spec import LoadedSpec, Spec, load_spec
from autosparse.spec.document import Mark
from autosparse.store.sealed import seal

GOOD = "model: resnet8\ndataset: digits\n"
SHARED: dict[str, Any] = {"initialization": "default", "prunable": None, "exclude": []}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **given: list[str]) -> LoadedSpec:
    """The spec of a text, in `spec.yaml` in the current directory."""
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return load_spec(Path("spec.yaml"), **given)


def refusal(text: str, **given: list[str]) -> UsageError:
    """Return the error of a refused spec."""
    with pytest.raises(UsageError) as caught:
        load(text, **given)
    return caught.value


def dumped(text: str, **given: list[str]) -> dict[str, Any]:
    """A loaded spec as plain data."""
    return load(text, **given).spec.model_dump(mode="json")


def test_a_spec_goes_by_the_name_of_its_file() -> None:
    """The name of a spec is its file's, without suffix."""
    loaded = load(GOOD)

    assert ("spec", Path("spec.yaml")) == (loaded.name, loaded.path)


def test_only_model_and_dataset_are_required() -> None:
    """Everything else has a default, which equals writing it out."""
    written = GOOD + (
        "version: 1\nbudget: [0.9, 0.95, 0.98]\nmethod: learned\nscorer: quota\nseeds: [0]\nemit: [safetensors]\n"
        "target: {device: auto, threads: auto, memory: auto, time: unlimited, backend: local}\n"
        "irp: {rounds: auto, epochs: auto, per_round: 0.25, seeds: [100]}\n"
        "tuning: {trials: auto, options: auto, folds: 3, seed: 0}\ntraining: {}\n"
        "controls: [shuffle, layer_mean, other_weights, width, random]\n"
        "compare: [random, erk, magnitude, snip, grasp, synflow, dense]\n"
    )

    assert load(GOOD).spec == load(written).spec


def test_a_file_with_a_byte_order_mark_is_read() -> None:
    """Editors on Windows put a mark before UTF-8: it is no part of the first key."""
    Path("spec.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())

    assert "resnet8" == load_spec(Path("spec.yaml")).spec.model.name


def test_a_spec_is_frozen() -> None:
    """A spec cannot be changed, only loaded again."""
    spec = load(GOOD).spec

    with pytest.raises(ValueError, match="frozen"):
        spec.budget = (0.5,)


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("budget: 0.99\n", ("budget",), [0.99]),
        ("budget: 0\n", ("budget",), [0.0]),
        ("seeds: 3\n", ("seeds",), [3]),
        ("irp: {seeds: 7}\n", ("irp", "seeds"), [7]),
    ],
)
def test_one_value_may_stand_for_a_list(text: str, path: tuple[str, ...], expected: list[float]) -> None:
    """One budget or one seed needs no brackets."""
    loaded: Any = dumped(GOOD + text)
    for key in path:
        loaded = loaded[key]

    assert expected == loaded


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("training.epochs=5", ("training", "epochs"), 5),
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        ("training.lr=1", ("training", "lr"), 1.0),
        ("training.flip=false", ("training", "flip"), False),
        ("training.drops=[0.1, 0.2]", ("training", "drops"), [0.1, 0.2]),
        ("training.lr=0.3 # a comment", ("training", "lr"), 0.3),
        ("irp.training.lr=0.3", ("irp", "training", "lr"), 0.3),
        ("irp.model.name=resnet20", ("irp", "model", "name"), "resnet20"),
        ("irp.training=", ("irp", "training"), None),
        ("target.device=cuda:1", ("target", "device"), "cuda:1"),
        ("model=resnet20", ("model",), {"name": "resnet20", "width": 16, **SHARED}),
        ("model={name: resnet20, width: 8}", ("model",), {"name": "resnet20", "width": 8, **SHARED}),
        ("model.width=8", ("model",), {"name": "resnet8", "width": 8, **SHARED}),
        ("method.name=mine", ("method", "name"), "mine"),
        ("budget=[0.5]", ("budget",), [0.5]),
        ("seeds=[0, 1]", ("seeds",), [0, 1]),
        ("compare=[]", ("compare",), []),
        ("compare=[dense]", ("compare",), ["dense"]),
    ],
)
def test_an_override_sets_a_typed_value(override: str, path: tuple[str, ...], expected: object) -> None:
    """`--set` values are YAML; sections on the way are made, and a choice by name becomes a mapping."""
    text = GOOD + "method: {criterion: snip, allocation: erk}\ntraining: {lr: 0.2}\n"
    loaded: Any = dumped(text, overrides=[override])
    for key in path:
        loaded = loaded[key]

    assert (expected, type(expected)) == (loaded, type(loaded))


def test_an_override_leaves_its_neighbours() -> None:
    """Setting one key of a section keeps the others that the file wrote."""
    spec = load(GOOD + "training: {lr: 0.2, epochs: 3}\n", overrides=["training.epochs=7"]).spec.training

    assert (7, 0.2) == (spec.epochs, spec.lr)


def test_later_overrides_win() -> None:
    """Overrides are applied in the order given."""
    assert 3 == load(GOOD, overrides=["training.epochs=2", "training.epochs=3"]).spec.training.epochs


def test_an_override_is_the_place_of_its_value() -> None:
    """The mark of an overridden value is the option itself, that of its neighbours their line."""
    document = load(GOOD + "training: {lr: 0.2}\n", overrides=["training.epochs=7", "model.width=8"]).document

    assert Mark("--set training.epochs=7") == document.values[("training", "epochs")]
    assert Mark("--set model.width=8") == document.values[("model", "width")]
    assert Mark("spec.yaml", 3, 16) == document.values[("training", "lr")]


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("training.epochs=x", '--set training.epochs=x: `training.epochs` must be a number but is "x"', None),
        ("training.lr=", "--set training.lr=: `training.lr` must be a number but is null", None),
        (
            'training.lr="0.1"',
            '--set training.lr="0.1": `training.lr` must be a number but is "0.1"',
            "write it without quotes",
        ),
        ("model.width=a", '--set model.width=a: `model.width` must be a whole number but is "a"', None),
        ("model=resnet9", "--set model=resnet9: `model` must be a model but is 'resnet9'", "did you mean `resnet8`?"),
        ("modle=resnet8", "--set modle=resnet8: unknown key `modle`", "did you mean `model`?"),
        ("budget=[1.0]", "--set budget=[1.0]: `budget[0]` must be at least 0 and below 1 but is 1", ...),
        ("training.lr=*a", "--set training.lr=*a: aliases (`*a`) are not allowed", "write the value out"),
        ("training.lr=[", "--set training.lr=[: expected the node content", "a bracket or quote is not closed"),
        ("study.training.lr=[0]", "--set study.training.lr=[0]: `training.lr` must be above 0 but is 0", None),
        ("training={lr: 1, lr: 2}", "--set training={lr: 1, lr: 2}: key `lr` is repeated", "keep one of them"),
        ("training.lr=.inf", "--set training.lr=.inf: .inf is not a finite number", None),
        ("training.lr=1\n---\n2", "--set training.lr=1\n---\n2: a second document begins here", ...),
        pytest.param("trainng.lr=1", "--set trainng.lr=1: unknown key `trainng`", "did you mean `training`?"),
        pytest.param("training.x.y=1", "--set training.x.y=1: unknown key `x` in `training`", ...),
        pytest.param("training.lr.x=1", '--set training.lr.x=1: `training.lr` must be a number but is {"x": 1}', None),
        ("model.widht=8", "--set model.widht=8: unknown key `widht` in `model`", "did you mean `width`?"),
    ],
)
def test_a_wrong_override_is_told_as_an_option(override: str, message: str, hint: Any) -> None:
    """Problems of an overridden value are placed at `--set ...`, not in the file."""
    error = refusal(GOOD, overrides=[override])

    assert isinstance(error, SpecError)
    assert message == error.message[: len(message)]
    assert hint is ... or hint == error.hint


@pytest.mark.parametrize("override", ["training", "", "=5", ".lr=1", "training.=1", "training..lr=1"])
def test_a_malformed_override_is_shown_the_form(override: str) -> None:
    """An override that is not `path.to.key=value` is refused with an example."""
    error = refusal(GOOD, overrides=[override])

    assert f"--set {override}: the option must be `path.to.key=value`" == error.message
    assert "such as `--set training.epochs=5`" == error.hint


def test_an_override_does_not_reach_into_a_list() -> None:
    """A list is set as a whole."""
    error = refusal(GOOD + "seeds: [0]\n", overrides=["seeds.0=1"])

    assert ("--set seeds.0=1: `seeds` is not a mapping", "set it as a whole") == (error.message, error.hint)


@pytest.mark.parametrize("override", ["training.lr=\udcff", "\udcff=3"])
def test_an_override_that_is_no_text_is_refused(override: str) -> None:
    """Bytes that are not UTF-8 reach the command line as halves of surrogate pairs."""
    assert "UTF-8" in refusal(GOOD, overrides=[override]).message


@pytest.mark.parametrize("budget", [["0.5"], ["0.5", "0.75"], ["0", "5e-1"]])
def test_budgets_replace_those_of_the_spec(budget: list[str]) -> None:
    """`--budget` takes the place of all budgets in the file."""
    loaded = load(GOOD + "budget: [0.1, 0.2, 0.3]\n", budget=budget)

    assert tuple(float(text) for text in budget) == loaded.spec.budget
    marks = [Mark(f"--budget {text}") for text in budget]
    assert marks == [loaded.document.values[("budget", number)] for number in range(len(budget))]
    assert "spec.yaml" not in {mark.name for path, mark in loaded.document.values.items() if path[:1] == ("budget",)}


@pytest.mark.parametrize(
    ("budget", "message", "hint"),
    [
        (["99"], "--budget 99: `budget[0]` must be at least 0 and below 1 but is 99", "for 99 % write 0.99"),
        (["0.5", "2"], "--budget 2: `budget[1]` must be at least 0 and below 1 but is 2", ...),
        ([""], "--budget '': `budget[0]` must be a number but is null", ...),
        (["0.5", "0.5"], "--budget 0.5: `budget[1]` repeats 0.5", "name it once"),
        (["many"], "--budget many: `budget[0]` must be a number", ...),
        (
            ["0.5", "weights=3"],
            "--budget weights=3: `budget[1]` must be in parameters, macs, bytes or latency",
            ...,
        ),
        (["parameters=0"], "--budget parameters=0: `budget[0].parameters` must be a whole number above 0", ...),
        (["2k"], "--budget 2k: `budget[0]` must be a number", "of what? {parameters: 2k} or {macs: 2k} or {bytes: 2k}"),
    ],
)
def test_a_wrong_budget_is_told_as_an_option(budget: list[str], message: str, hint: Any) -> None:
    """Problems of a budget on the command line are placed there."""
    error = refusal(GOOD, budget=budget)

    assert message == error.message[: len(message)]
    assert hint is ... or hint == error.hint


@pytest.fixture
def base() -> str:
    """A spec that extends `folder/base.yaml`, which it is to be appended to."""
    Path("folder").mkdir()
    Path("folder/base.yaml").write_text(
        "model: {name: resnet8, width: 4}\n"
        "dataset: digits\n"
        "budget: [0.5, 0.6]\n"
        "training:\n"
        "  lr: 0.3\n"
        "  epochs: 3\n"
        "method: {name: mine, criterion: {name: snip, images: 8}, allocation: erk}\n"
    )
    return "extends: folder/base.yaml\n"


def test_a_base_gives_what_is_not_written(base: str) -> None:
    """A spec that only extends another means the same."""
    assert load_spec(Path("folder/base.yaml")).spec == load(base).spec


def test_mappings_merge_and_everything_else_is_replaced(base: str) -> None:
    """Keys of a section are laid over the base's, down to options; lists and values are replaced."""
    text = base + "budget: [0.7]\ntraining: {epochs: 9}\nmethod: {criterion: {images: 16}}\n"

    spec = load(text).spec

    assert (0.7,) == spec.budget
    assert (0.3, 9) == (spec.training.lr, spec.training.epochs)
    assert {"name": "snip", "images": 16, "mode": "training"} == spec.method.criterion.model_dump()
    assert ("mine", "erk") == (spec.method.name, spec.method.allocation.name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {width: 8}\n", {"name": "resnet8", "width": 8, **SHARED}),
        ("model: {name: resnet8}\n", {"name": "resnet8", "width": 4, **SHARED}),
        ("model: {name: resnet20}\n", {"name": "resnet20", "width": 16, **SHARED}),
        ("model: resnet20\n", {"name": "resnet20", "width": 16, **SHARED}),
        ("model: {name: mlp, widths: [3]}\n", {"name": "mlp", "widths": [3], **SHARED}),
    ],
)
def test_a_choice_of_another_name_replaces_the_base(base: str, text: str, expected: dict[str, Any]) -> None:
    """The options of a base's choice are kept for the same name, and gone with another."""
    assert expected == dumped(base + text)["model"]


def test_marks_point_into_the_file_that_wrote_a_value(base: str) -> None:
    """After merging, every value is placed in its own file."""
    values = load(base + "budget: [0.7]\ntraining: {epochs: 9}\n").document.values
    under = "folder/base.yaml"

    assert Mark("spec.yaml", 2, 10) == values[("budget", 0)]
    assert ("budget", 1) not in values
    assert Mark("spec.yaml", 3, 20) == values[("training", "epochs")]
    assert Mark(under, 5, 7) == values[("training", "lr")]
    assert Mark(under, 1, 31) == values[("model", "width")]
    assert ("extends",) not in load(base).document.data


@pytest.mark.parametrize(
    ("above", "below", "path"),
    [
        ("training: {epochs: 0}\n", "", "spec.yaml:2:20"),
        ("", "training: {epochs: 0}\n", "folder/low.yaml:3:20"),
        ("training: {epohcs: 1}\n", "training: {lr: 1}\n", "spec.yaml:2:12"),
        ("training: {lr: 1}\n", "training: {epohcs: 1}\n", "folder/low.yaml:3:12"),
    ],
)
def test_a_problem_is_told_in_the_file_that_wrote_it(above: str, below: str, path: str) -> None:
    """A wrong value of a base is placed in the base."""
    Path("folder").mkdir()
    Path("folder/low.yaml").write_text(GOOD + below)

    assert refusal("extends: folder/low.yaml\n" + above).message.startswith(f"{path}: ")


def test_bases_are_found_beside_the_file_that_names_them() -> None:
    """A chain of bases may cross folders; each path is relative to its own file."""
    Path("a/b").mkdir(parents=True)
    Path("a/b/low.yaml").write_text(GOOD + "training: {lr: 0.3}\n")
    Path("a/middle.yaml").write_text("extends: b/low.yaml\ntraining: {epochs: 4}\n")

    spec = load("extends: a/middle.yaml\nbudget: [0.5]\n").spec

    assert (0.3, 4, (0.5,)) == (spec.training.lr, spec.training.epochs, spec.budget)


def test_overrides_lie_over_bases(base: str) -> None:
    """The command line has the last word."""
    spec = load(base, overrides=["training.epochs=1", "model.width=2"]).spec

    assert (0.3, 1, 2) == (spec.training.lr, spec.training.epochs, spec.model.options()["width"])


@pytest.mark.parametrize("files", [["spec"], ["spec", "a"], ["spec", "a", "b"]])
def test_bases_in_a_circle_are_refused(files: list[str]) -> None:
    """A spec that extends itself is refused at the end of the circle."""
    for name, following in zip(files, [*files[1:], files[0]], strict=True):
        Path(f"{name}.yaml").write_text(f"# {name}\nextends: {following}.yaml\n")

    with pytest.raises(SpecError) as caught:
        load_spec(Path("spec.yaml"))

    assert f"{files[-1]}.yaml:2:10: `extends` comes back to spec.yaml" == caught.value.message


def test_a_base_must_be_a_mapping_too() -> None:
    """A base that is a list is refused in its own file."""
    Path("list.yaml").write_text("- 1\n")

    assert "list.yaml:1:1: a spec must be a mapping of keys" == refusal("extends: list.yaml\n").message


def test_loading_changes_no_defaults() -> None:
    """Overrides and bases of one spec are not seen by the next."""
    before = load(GOOD).spec
    load(GOOD, overrides=["training.lr=0.7", "irp.rounds=2", "method=snip"])

    assert before == load(GOOD).spec
    assert before == Spec.model_validate({"model": "resnet8", "dataset": "digits"})


def test_a_sealed_spec_is_compared_with_its_digest() -> None:
    """The resolved spec of a run folder is a spec; a flipped digit is an error at the digest, also in a base."""
    text = seal({"version": 1, "model": "resnet8", "dataset": "digits", "seeds": [3]}).decode()

    assert (3,) == tuple(load(text).spec.seeds)
    with pytest.raises(SpecError, match=r"spec\.yaml:\d+:\d+: its content differs from its `content_sha256`"):
        load(text.replace("3", "4", 1))
    Path("base.yaml").write_text(text.replace("resnet8", "resnet20"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"base\.yaml:\d+:\d+: its content differs"):
        load("extends: base.yaml\n")
