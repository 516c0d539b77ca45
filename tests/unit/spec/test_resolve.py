"""Resolving writes out `auto` and defaults, and records where every value came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from autosparse.backends import Machine
from autosparse.planning.compile import compile_plan
from autosparse.spec import LoadedSpec, Pretrained, Spec, load_spec, open_settings, provenance, resolve, shipped

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
GOOD = "model: resnet8\ndataset: digits\n"
SHIPPED = [path for kind in ("specs", "templates") for path in shipped(kind).values()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **given: list[str]) -> LoadedSpec:
    """The spec of a text, in `spec.yaml` in the current directory."""
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return load_spec(Path("spec.yaml"), **given)


def resolved(text: str, machine: Machine = MACHINE) -> Spec:
    """A spec with everything written out."""
    return resolve(load(text).spec, machine)


def keys(spec: Spec) -> dict[str, str]:
    """Step name -> key."""
    return {name: step.key for name, step in compile_plan(spec, "spec").steps.items()}


def leaves(data: Any, path: str = "") -> list[str]:
    """The dotted paths of all that is no mapping."""
    if not isinstance(data, dict):
        return [path]
    return [leaf for key, value in data.items() for leaf in leaves(value, f"{path}.{key}" if path else key)]


def origins(text: str, **given: list[str]) -> dict[str, str]:
    """Dotted path -> where the value came from."""
    loaded = load(text, **given)
    return provenance(resolve(loaded.spec, MACHINE).model_dump(mode="json"), loaded.document)


def test_a_machine_has_the_devices_that_it_has() -> None:
    """`cuda` is the first of them; a number above the last is none."""
    machine = replace(MACHINE, devices=("cuda", "cpu"), cuda_memory=(10, 20))

    assert all(machine.has(device) for device in ("cpu", "cuda", "cuda:0", "cuda:1"))
    assert not any(machine.has(device) for device in ("cuda:2", "cuda:7", "mps"))
    assert not MACHINE.has("cuda")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
class TestEveryShippedSpec:
    """Tests of every file in `specs` and `templates`."""

    def test_compiles(self, path: Path) -> None:
        """It validates, resolves and compiles to a plan whose steps' inputs come before them; all that it needs."""
        spec = resolve(load_spec(path).spec, MACHINE)
        plan = compile_plan(spec, path.stem)
        seen: set[str] = set()
        for name, step in plan.steps.items():
            assert set(step.inputs.values()) <= seen
            seen.add(name)

        learned = {"pretrained"} if isinstance(spec.scorer, Pretrained) else {"irp", "label", "trial", "tune", "scorer"}
        learning = learned if spec.learns or isinstance(spec.scorer, Pretrained) else set()
        sparse = {"sparse_train", "final_mask"} if any(method.updates_masks for method in spec.methods) else set()
        sparse |= {"search_stages", "ticket"} if any(method.needs_order for method in spec.methods) else set()
        assert {"data", "init", *learning, *sparse, "mask", "train", "evaluate", "emit"} == {
            step.operation for step in plan.steps.values()
        }

    def test_resolving_twice_changes_nothing(self, path: Path) -> None:
        """A resolved spec is its own resolution, on any machine."""
        once = resolve(load_spec(path).spec, MACHINE)
        other = Machine("another", cores=64, cpu_bfloat16=False, devices=("cuda", "cpu"), cuda_bfloat16=False)

        assert once == resolve(once, MACHINE)
        assert once == resolve(once, other)

    def test_its_resolution_is_a_spec_of_the_same_keys(self, path: Path) -> None:
        """The output of `render` can be run, and reuses everything; written as YAML or as JSON."""
        once = resolve(load_spec(path).spec, MACHINE)
        data = once.model_dump(mode="json")
        for text in (json.dumps(data, indent=1), yaml.safe_dump(data)):
            again = load(text).spec

            assert once == again
            assert keys(once) == keys(resolve(again, MACHINE))

    def test_every_value_has_a_provenance(self, path: Path) -> None:
        """Every leaf of the resolved spec says where it came from."""
        loaded = load_spec(path)
        data = resolve(loaded.spec, MACHINE).model_dump(mode="json")
        sources = provenance(data, loaded.document)

        assert leaves(data) == list(sources)
        assert [] == [
            origin
            for origin in sources.values()
            if origin not in ("auto", "default") and not origin.startswith(("as `", f"{path.parent}/"))
        ]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (MACHINE, ("cpu", 2, "bfloat16")),
        (replace(MACHINE, cores=8, cpu_bfloat16=False), ("cpu", 8, "float32")),
        (replace(MACHINE, devices=("cuda", "cpu"), cuda_bfloat16=True, cpu_bfloat16=False), ("cuda", 2, "bfloat16")),
        (replace(MACHINE, devices=("cuda", "cpu")), ("cuda", 2, "float32")),
        (replace(MACHINE, devices=("mps", "cpu")), ("mps", 2, "float32")),
    ],
    ids=["cpu", "old cpu", "cuda", "old cuda", "mps"],
)
def test_auto_is_written_out_for_the_machine(machine: Machine, expected: tuple[str, int, str]) -> None:
    """Device, threads and precision are what the machine has."""
    spec = resolved(GOOD, machine)

    assert expected == (spec.target.device, spec.target.threads, spec.training.precision)
    assert spec.irp.training is not None
    assert expected[2] == spec.irp.training.precision


def test_workers_share_the_cores() -> None:
    """If their number is written; each has one thread or more."""
    machine = replace(MACHINE, cores=8)
    texts = [f"{GOOD}target: {{workers: {workers}}}\n" for workers in ("auto", 1, 3, 20)]
    threads = [resolved(text, machine).target.threads for text in texts]

    assert [8, 8, 2, 1] == threads


def test_openmp_limits_threads_but_not_cores() -> None:
    """The user's `OMP_NUM_THREADS` lowers the default of a step; workers still share all cores."""
    machine = replace(MACHINE, cores=8, most_threads=2)
    texts = [GOOD, GOOD + "target: {workers: 2}\n", GOOD + "target: {workers: 8}\n", GOOD + "target: {threads: 5}\n"]

    assert [2, 2, 1, 5] == [resolved(text, machine).target.threads for text in texts]


def test_what_is_written_is_kept() -> None:
    """A device, a number of threads and a precision in the spec go before the machine's."""
    text = GOOD + "target: {device: cpu, threads: 3}\ntraining: {precision: float32}\n"
    spec = resolved(text, replace(MACHINE, devices=("cuda", "cpu"), cuda_bfloat16=True))

    assert ("cpu", 3, "float32") == (spec.target.device, spec.target.threads, spec.training.precision)


def test_precision_follows_the_device_that_is_named() -> None:
    """`auto` precision is that of the device in the spec, not of the machine's best one."""
    machine = replace(MACHINE, devices=("cuda", "cpu"), cpu_bfloat16=False, cuda_bfloat16=True)

    assert "bfloat16" == resolved(GOOD + "target: {device: cuda:1}\n", machine).training.precision
    assert "float32" == resolved(GOOD + "target: {device: cpu}\n", machine).training.precision


def test_irp_takes_what_it_does_not_say_from_the_spec() -> None:
    """Model, dataset and training of IRP are the spec's unless written."""
    spec = resolved("model: {name: resnet8, width: 4}\ndataset: digits\ntraining: {lr: 0.3}\n")

    assert (spec.model, spec.dataset, spec.training) == (spec.irp.model, spec.irp.dataset, spec.irp.training)


def test_irp_keeps_what_it_says() -> None:
    """Written fields of IRP are kept; of a written section, the rest are defaults."""
    spec = resolved(
        "model: resnet20\ndataset: cifar10\ntraining: {lr: 0.3, epochs: 3}\n"
        "irp: {model: resnet8, dataset: digits, training: {lr: 0.2}}\n"
    )

    assert spec.irp.model is not None
    assert spec.irp.dataset is not None
    assert spec.irp.training is not None
    assert ("resnet8", "digits") == (spec.irp.model.name, spec.irp.dataset.name)
    assert (0.2, 160, "bfloat16") == (
        spec.irp.training.lr,
        spec.irp.training.epochs,
        spec.irp.training.precision,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("start", "strength", "ridge")),
        ("scorer: {name: mlp, steps: 9}\n", ("width", "depth", "lr")),
        ("scorer: {name: mlp, width: 64}\n", ("depth", "lr")),
        ("tuning: {options: [ridge]}\n", ("ridge",)),
        ("tuning: {options: []}\n", ()),
        ("scorer: {name: mlp, lr: 0.01}\ntuning: {options: [lr]}\n", ("lr",)),
    ],
)
def test_auto_tunes_what_the_scorer_does_not_set(text: str, expected: tuple[str, ...]) -> None:
    """An option that is written is meant, even at its default, unless tuning names it."""
    assert expected == resolved(GOOD + text).tuning.options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("irp: {per_round: 0.25}\n", 16),
        ("irp: {per_round: 0.25, per_round_of: all}\n", 3),
        ("irp: {per_round: 0.3, per_round_of: all}\n", 3),
        ("irp: {per_round: 0.02, per_round_of: all}\n", 25),
        ("irp: {per_round: 0.02, per_round_of: all}\nscorer: mlp\n", 16),
        ("irp: {per_round: 0.02}\n", 35),
    ],
)
def test_rounds_leave_some_weights(text: str, expected: int) -> None:
    """Rounds that each take a quarter of all weights are three at the most; quotas are learned from half of them."""
    assert expected == resolved(GOOD + text).irp.rounds
    assert expected == open_settings(load(GOOD + text).spec)["irp.rounds"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 20),
        ("tuning: {trials: 3}\n", 3),
        ("scorer: paper\n", 0),
        ("scorer: paper\ntuning: {trials: 3}\n", 0),
        ("tuning: {options: []}\n", 0),
        ("scorer: {name: mlp, width: 64, depth: 2, lr: 0.01}\n", 0),
    ],
)
def test_there_are_no_trials_where_nothing_is_tuned(text: str, expected: int) -> None:
    """They would all be the same."""
    assert expected == resolved(GOOD + text).tuning.trials
    assert (text == "") == ("tuning.trials" in open_settings(load(GOOD + text).spec))


def test_provenance_names_the_place_of_what_was_written() -> None:
    """Written values have their line; those of a mapping that were not written are defaults."""
    sources = origins(GOOD + "training:\n  lr: 0.2\nbudget: [0.5, 0.6]\ntarget: {threads: 3}\n")

    assert "spec.yaml:4:7" == sources["training.lr"]
    assert "default" == sources["training.momentum"]
    assert "spec.yaml:5:9" == sources["budget"]
    assert "spec.yaml:6:19" == sources["target.threads"]
    assert "default" == sources["seeds"]
    assert "default" == sources["irp.per_round"]
    assert "default" == sources["scorer.ridge"]
    assert "default" == sources["target.backend.name"]


def test_provenance_tells_auto_from_default() -> None:
    """Decisions of the machine or the scorer are `auto`, written or not; choices are not."""
    unsaid, written = (
        origins(GOOD),
        origins(GOOD + "training: {precision: auto}\ntarget: {device: cpu, threads: auto}\n"),
    )
    open_ = {"irp.rounds", "irp.epochs", "tuning.trials"}
    auto = {"target.device", "target.threads", "training.precision", "tuning.objective", "tuning.options", *open_}

    assert auto == {path for path, origin in unsaid.items() if origin == "auto"}
    assert auto - {"target.device"} == {path for path, origin in written.items() if origin == "auto"}
    assert "spec.yaml:4:18" == written["target.device"]


def test_provenance_of_a_choice_by_name_is_its_place() -> None:
    """A name stands for all that it means: a model's options, a preset's four choices."""
    sources = origins(GOOD + "method: snip\n")

    assert "spec.yaml:1:8" == sources["model.name"]
    assert "spec.yaml:1:8" == sources["model.width"]
    assert "spec.yaml:3:9" == sources["method.criterion.images"]
    assert "spec.yaml:3:9" == sources["method.allocation.name"]


def test_provenance_of_a_choice_written_out() -> None:
    """Only written values of a mapping have a position."""
    sources = origins("model: {name: resnet8}\ndataset: digits\nmethod: {criterion: snip}\n")

    assert "spec.yaml:1:15" == sources["model.name"]
    assert "default" == sources["model.width"]
    assert "spec.yaml:3:21" == sources["method.criterion.images"]
    assert "default" == sources["method.allocation.name"]


def test_provenance_of_what_irp_takes_from_the_spec() -> None:
    """IRP's unsaid model, dataset and training say whose they are; what it writes has its place."""
    sources = origins(GOOD + "irp: {model: resnet20, rounds: 3}\n")

    assert "spec.yaml:3:14" == sources["irp.model.width"]
    assert "as `dataset`" == sources["irp.dataset.name"]
    assert "as `training`" == sources["irp.training.lr"]
    assert "as `training`" == sources["irp.training.precision"]
    assert "spec.yaml:3:32" == sources["irp.rounds"]


def test_provenance_of_a_training_that_irp_writes_in_part() -> None:
    """The rest of a section that IRP writes are defaults, not the spec's."""
    sources = origins(GOOD + "irp: {training: {lr: 0.2}}\n")

    assert "spec.yaml:3:22" == sources["irp.training.lr"]
    assert "default" == sources["irp.training.epochs"]


def test_provenance_of_the_precision_that_irp_does_not_write() -> None:
    """The machine decides the precision of IRP's own training too."""
    assert "auto" == origins(GOOD + "irp: {training: {lr: 0.2}}\n")["irp.training.precision"]


def test_provenance_of_what_irp_writes_as_null() -> None:
    """`null` means the spec's own, as silence does."""
    sources = origins(GOOD + "irp: {model: null, training:}\n")

    assert "as `model`" == sources["irp.model.name"]
    assert "as `training`" == sources["irp.training.lr"]


def test_provenance_of_the_command_line_and_bases() -> None:
    """An option and a base's file are named as such."""
    Path("base.yaml").write_text(GOOD + "training: {lr: 0.2, epochs: 3}\n")
    sources = origins("extends: base.yaml\n", overrides=["training.epochs=5"], budget=["0.5"])

    assert "base.yaml:3:16" == sources["training.lr"]
    assert "--set training.epochs=5" == sources["training.epochs"]
    assert "--budget 0.5" == sources["budget"]
    assert "base.yaml:1:8" == sources["model.name"]
