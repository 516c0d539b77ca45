"""Keys: what changes them, what must not, and what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.backends import Machine
from autosparse.core.training.recipe import STEP_FIELDS
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import load_spec, resolve
from autosparse.store import digest
from tests.plans import DIGITS, MACHINE

# The spec DIGITS on MACHINE. To write them again: `python -m tests.unit.planning.test_keys`.
GOLDEN = {
    "data/digits": "e1f4bb952d771d3bfa4b7bd8f2197c63098357897ae0811b8ec490a81f7f1a4f",
    "init/resnet8/seed100": "886d4ee0e39077631d5499f01228dd878d5dc07cfb44aa1e1b8ee81a3cb93b2e",
    "irp/seed100/round1": "cce31f4b0b17fa2b0a55ed8b9a7f56aaf0378940a4bddb0c5061aa6160eb18d2",
    "irp/seed100/round8": "a73a613868b6018a969c0dd02028b22a7bcc277b41e2fe18b163936d1307ba9d",
    "label/seed100": "792286dfc4d3c77684196c4b04fc805fbe1896f40b7001e35f53b02f04766580",
    "trial/5": "e36d60f82844ff78e248079ec867766915db77b4f716e91c60b0bdeb87efde59",
    "scorer": "4a1e0ef1e31bcc6d8c597924eb9286e03c9814dfd93d9d138694534555700973",
    "mask/learned/0.95/seed0": "022cf900ec5b7293ffc86bd8afbc629fe7250054d48319f177bda7e3d5de5610",
    "mask/synflow/0.9/seed0": "62f59a727f0ae427d1bc89e37ceab0555aaa9a8c85a5f1668985b1c8da787a38",
    "train/dense/seed0": "0e5df0927bdefbfd0495f4d7d34a6058ba71ce0dc6d8669d810f24cfad818b64",
    "evaluate/snip/0.98/seed0": "b955e32a3f5f790072ef36eb983bf1d2fce1f9a0be2dc4b43edd6a0a6d995900",
    "emit/safetensors/learned/0.9/seed0": "17d19a075106972418b8d22057b13157ed2bf11b298375d953a30076af34cc6f",
}

BASE = (
    "version: 1\nmodel: {name: resnet8, width: 4}\ndataset: digits\nbudget: [0.5, 0.9]\nmethod: learned\nscorer: mlp\n"
    "irp: {rounds: 3, per_round: 0.5, seeds: [100, 101]}\ntuning: {trials: 2}\ntraining: {epochs: 2, lr: 0.1}\n"
    "compare: [random, snip, dense]\nseeds: [0, 1]\nemit: [safetensors]\n"
)
LEARNING = {"irp", "label", "trial", "tune", "scorer"}
EVERY = LEARNING | {"data", "init", "mask", "train", "evaluate", "emit"}


def digits(machine: Machine = MACHINE) -> Plan:
    """The plan of the digits spec."""
    return compile_plan(resolve(load_spec(DIGITS).spec, machine), "digits")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(text: str = BASE, *overrides: str, machine: Machine = MACHINE, name: str = "spec") -> Plan:
    """The plan of a spec, with overrides."""
    path = Path(f"{name}.yaml")
    path.write_text(text, encoding="utf-8")
    return compile_plan(resolve(load_spec(path, overrides=overrides).spec, machine), name)


def keys(plan: Plan) -> dict[str, str]:
    """Step name -> key."""
    return {name: step.key for name, step in plan.steps.items()}


def added(before: Plan, after: Plan) -> set[str]:
    """The operations of which there are steps after a change that were not there before."""
    known = {step.key for step in before.steps.values()}
    return {step.operation for step in after.steps.values() if step.key not in known}


def lost(before: Plan, after: Plan) -> set[str]:
    """The operations of which steps are gone after a change."""
    return added(after, before)


def test_golden_keys() -> None:
    """Keys do not move from 0.1.0 on: users would lose every cached IRP, scorer, mask and trained network.

    They were pinned once before it, when every option came to be written out.
    """
    before = keys(digits())

    assert GOLDEN == {name: before[name] for name in GOLDEN}, (
        "keys have moved: every IRP, scorer, mask and training that users have cached would run again, hours on a "
        "laptop and days on a cluster. Raise the version of the operation that changed; write new keys here only for "
        "steps that cannot be reused, and say so in CHANGELOG"
    )


def test_a_key_is_the_digest_of_all_that_a_step_is() -> None:
    """Operation, version, every option and the inputs' keys make the key; names and places do not."""
    steps = plan().steps
    for step in steps.values():
        inputs = {role: steps[name].key for role, name in step.inputs.items()}

        assert step.key == digest(
            {"operation": step.operation, "version": step.version, "options": dict(step.options), "inputs": inputs}
        )


def test_no_two_steps_are_the_same() -> None:
    """Every step has its own name and its own key, and inputs that come before it."""
    planned = plan()
    names = list(planned.steps)

    assert len(names) == len({step.key for step in planned.steps.values()})
    for workspace, step in enumerate(planned.steps.values()):
        assert step.name == names[workspace]
        assert set(step.inputs.values()) <= set(names[:workspace])


def test_every_cell_has_its_steps() -> None:
    """Each method at each sparsity and seed is one cell; the dense network has one a seed and no mask."""
    planned = plan()
    methods = ["learned", "learned.shuffle", "learned.layer_mean", "random", "snip"]
    expected = {(method, sparsity, seed) for method in methods for sparsity in (0.5, 0.9) for seed in (0, 1)}

    assert expected | {("dense", 0.0, 0), ("dense", 0.0, 1)} == {
        (cell.method, cell.sparsity, cell.seed) for cell in planned.cells
    }
    for cell in planned.cells:
        assert (cell.mask is None) == (cell.role == "dense")
        if cell.mask:
            assert cell.sparsity == planned.steps[cell.mask].options["sparsity"]
            assert cell.mask == planned.steps[cell.train].inputs["mask"]
        assert cell.train == planned.steps[cell.evaluate].inputs["train"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("version: 1\n", "# a comment\n\n", id="a comment, and no version"),
        pytest.param(BASE, "".join(reversed(BASE.splitlines(keepends=True))), id="sections in another order"),
        pytest.param("{name: resnet8, width: 4}", "{width: 4, name: resnet8}", id="keys in another order"),
        pytest.param("{epochs: 2, lr: 0.1}", "\n  lr: 0.1  # peak\n  epochs: 2\n", id="another layout"),
        pytest.param("lr: 0.1}", "lr: 1e-1}", id="another way to write a number"),
        pytest.param("0.5, 0.9", "5.0e-1, .90", id="another way to write budgets"),
        pytest.param("0.5, 0.9", "0.9, 0.5", id="budgets in another order"),
        pytest.param("[100, 101]", "[101, 100]", id="seeds of IRP in another order"),
        pytest.param("method: learned\n", "", id="a default left out"),
        pytest.param("dataset: digits", "dataset: {name: digits}", id="a choice written out"),
        pytest.param("lr: 0.1}", "lr: 0.1, momentum: 0.9, warmup: 0.05}", id="defaults written out"),
        pytest.param("[random, snip, dense]", "[dense, snip, random, snip]", id="comparisons in another order"),
        pytest.param(
            "snip, dense]",
            "{name: snip, criterion: {name: snip, images: 256}, allocation: global}, dense]",
            id="a preset written out",
        ),
        pytest.param("emit: [safetensors]\n", "target: {device: cpu, threads: 7, backend: local}\n", id="target"),
    ],
)
def test_writing_a_spec_differently_changes_no_key(old: str, new: str) -> None:
    """Comments, order, layout, defaults and the target do not change results."""
    assert BASE.count(old) == 1

    before, after = plan(), plan(BASE.replace(old, new))

    assert {step.key for step in before.steps.values()} == {step.key for step in after.steps.values()}


def test_whole_numbers_are_numbers() -> None:
    """`1` and `1.0` are the same learning rate."""
    assert keys(plan(BASE, "training.lr=1")) == keys(plan(BASE, "training.lr=1.0"))


def test_names_change_no_key() -> None:
    """The name of a spec, or of a method in it, does not matter."""
    text = BASE.replace("snip, dense]", "{name: mine, criterion: snip}, dense]")

    assert keys(plan()) == keys(plan(name="another"))
    assert {step.key for step in plan().steps.values()} == {step.key for step in plan(text).steps.values()}


@pytest.mark.parametrize(
    "machine",
    [
        Machine("another", cores=64, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False),
        Machine("another", cores=2, cpu_bfloat16=False, devices=("cuda", "cpu"), cuda_bfloat16=True),
    ],
    ids=["more cores", "a GPU"],
)
def test_a_machine_of_the_same_precision_has_the_same_keys(machine: Machine) -> None:
    """Cores and devices are no part of a key, so machines can share a cache."""
    assert keys(digits()) == keys(digits(machine))


def test_precision_is_part_of_what_is_computed() -> None:
    """A machine without bfloat16 trains in float32, which gives other networks from the same data and starts."""
    before = plan()
    after = plan(machine=Machine("old", cores=2, cpu_bfloat16=False, devices=("cpu",), cuda_bfloat16=False))

    assert {"irp", "label", "trial", "tune", "scorer", "mask", "train", "evaluate", "emit"} == lost(before, after)
    assert keys(after) == keys(plan(BASE, "training.precision=float32"))


@pytest.mark.parametrize(
    ("overrides", "gone", "new"),
    [
        pytest.param(["budget=[0.5, 0.9, 0.99]"], set(), {"mask", "train", "evaluate", "emit"}, id="a budget more"),
        pytest.param(["budget=[0.9]"], {"mask", "train", "evaluate", "emit"}, set(), id="a budget less"),
        pytest.param(["seeds=[0, 1, 2]"], set(), {"init", "mask", "train", "evaluate"}, id="a seed more"),
        pytest.param(["seeds=[1, 0]"], {"emit"}, {"emit"}, id="another first seed, which is emitted"),
        pytest.param(["compare=[random, snip, erk, dense]"], set(), {"mask", "train", "evaluate"}, id="a method more"),
        pytest.param(["compare=[random, snip]"], {"train", "evaluate"}, set(), id="no dense network"),
        pytest.param(["controls=[]"], {"mask", "train", "evaluate"}, set(), id="no controls"),
        pytest.param(["emit=[]"], {"emit"}, set(), id="nothing emitted"),
        pytest.param(
            ["irp.rounds=5"],
            EVERY - {"data", "init", "irp"},
            EVERY - {"data", "init"},
            id="more rounds, which reuse the earlier ones",
        ),
        pytest.param(
            ["irp.seeds=[100, 101, 102]"], EVERY - {"data", "init", "irp", "label"}, EVERY - {"data"}, id="one more IRP"
        ),
        pytest.param(
            ["tuning.trials=4"],
            {"tune", "scorer", "mask", "train", "evaluate", "emit"},
            {"trial", "tune", "scorer", "mask", "train", "evaluate", "emit"},
            id="more trials, which reuse the earlier ones",
        ),
        pytest.param(
            ["tuning.options=[lr]"],
            {"trial", "tune", "scorer", "mask", "train", "evaluate", "emit"},
            {"trial", "tune", "scorer", "mask", "train", "evaluate", "emit"},
            id="other options tuned",
        ),
        pytest.param(
            ["scorer={name: mlp, steps: 9}"],
            {"trial", "tune", "scorer", "mask", "train", "evaluate", "emit"},
            {"trial", "tune", "scorer", "mask", "train", "evaluate", "emit"},
            id="another scorer",
        ),
        pytest.param(["training.lr=0.2"], EVERY - {"data", "init"}, EVERY - {"data", "init"}, id="another recipe"),
        pytest.param(["model.width=8"], EVERY - {"data"}, EVERY - {"data"}, id="another network"),
        pytest.param(["dataset=cifar10"], EVERY, EVERY, id="another dataset"),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(
    overrides: Sequence[str], gone: set[str], new: set[str]
) -> None:
    """Of each change, the operations whose earlier steps are no longer used, and those that have new steps."""
    before, after = plan(), plan(BASE, *overrides)

    assert gone == lost(before, after)
    assert new == added(before, after)


APART = (
    "model: resnet8\ndataset: digits\nbudget: [0.9]\ncompare: [snip]\ntuning: {trials: 2}\n"
    "irp: {model: {name: resnet8, width: 4}, dataset: digits, rounds: 3, training: {epochs: 3}}\n"
)


@pytest.mark.parametrize(
    "override", ["model=resnet20", "model.width=8", "dataset=cifar10", "training.lr=0.2", "training.epochs=1"]
)
def test_a_source_of_its_own_serves_every_spec(override: str) -> None:
    """With IRP's model, dataset and training written, the spec's own leave everything learned where it was."""
    before, after = plan(APART), plan(APART, override)

    assert added(before, after) & LEARNING == set()
    assert lost(before, after) & LEARNING == set()
    assert "train" in added(before, after)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("irp.per_round=0.3", LEARNING),
        ("irp.training.lr=0.2", LEARNING),
        ("irp.model.width=8", LEARNING | {"init"}),
        ("irp.seeds=[7]", LEARNING | {"init"}),
        ("tuning.seed=1", LEARNING - {"irp", "label"}),
        ("tuning.folds=2", LEARNING - {"irp", "label"}),
        ("tuning.parallel=2", LEARNING - {"irp", "label"}),
        ("tuning.pruner=median", LEARNING - {"irp", "label"}),
    ],
)
def test_what_changes_the_source_changes_what_is_learned(override: str, changed: set[str]) -> None:
    """IRP, and how the scorer is tuned, reach the scorer and the masks made with it, not the comparison."""
    before, after = plan(APART), plan(APART, override)

    assert changed | {"mask", "train", "evaluate", "emit"} == added(before, after)
    for name in ("mask/snip/0.9/seed0", "train/snip/0.9/seed0", "init/resnet8/seed0"):
        assert keys(before)[name] == keys(after)[name]


def test_names_of_classes_are_in_the_keys_of_emitted_models() -> None:
    """They are content of a model, in the order of its outputs, and of no other step."""
    planned = plan(BASE, "dataset={name: cifar10, classes: [dog, cat]}")
    named = {step.operation for step in planned.steps.values() if step.options.get("classes") == ["dog", "cat"]}

    assert {"emit"} == named
    assert [*"0123456789"] == plan().of("emit")[0].options["classes"]
    assert "dataset" == planned.of("emit")[0].spec_path(("classes",))


def test_rounds_are_numbered_and_chained() -> None:
    """A round takes the one before it, and does not know how many follow."""
    steps = plan().steps

    assert {"init", "data"} == set(steps["irp/seed100/round1"].inputs)
    assert "irp/seed100/round2" == steps["irp/seed100/round3"].inputs["previous"]
    assert {1, 2, 3} == {steps[f"irp/seed101/round{number}"].options["number"] for number in (1, 2, 3)}


def test_a_proxy_is_keyed_where_it_trains() -> None:
    """With weight 0 it is as if there were none; else trials take its network, and know the method and the recipe."""
    proxy = ("tuning.proxy={weight: 0.5}", "irp.training={epochs: 2, lr: 0.1}")
    trial = plan(BASE, *proxy).steps["trial/1"]

    assert keys(plan()) == keys(plan(BASE, "tuning.proxy={weight: 0, epochs: 3}"))
    assert ("init/resnet8/seed200", "data/digits") == (trial.inputs["init"], trial.inputs["data"])
    assert {"weight": 0.5, "sparsity": 0.95, "epochs": 1, "seed": 200} == trial.options["proxy"]
    assert "epochs" not in trial.options["training"]
    for other in ("method={preset: learned, selection: shuffle}", "irp.training.lr=0.2", "tuning.proxy.sparsity=0.9"):
        assert trial.key != plan(BASE, *proxy, other).steps["trial/1"].key
    for same in ("budget=0.7", "training.epochs=9", "seeds=[5]"):
        assert trial.key == plan(BASE, *proxy, same).steps["trial/1"].key


def test_selections_are_keyed_where_they_are_tuned() -> None:
    """A trial knows them by what proposals call them; they are tuned where nothing else is."""
    overrides = (
        "method=learned", "tuning.proxy={weight: 0.5}", "tuning.trials=4",
        "tuning.selections=[top, {name: sampled, temperature: 0.3}]",
    )  # fmt: skip
    options = plan(BASE, *overrides).steps["trial/3"].options

    assert ["top", "sampled temperature 0.3"] == options["space"]["selection"]["values"] == [*options["selections"]]
    assert {"temperature": 0.3} == options["selections"]["sampled temperature 0.3"]["options"]
    assert "selections" not in plan(BASE, *overrides[:-1]).steps["trial/3"].options
    assert 4 == len(plan(BASE, *overrides, "tuning.options=[]").of("trial"))


def test_a_proxy_is_pruned_by_the_first_method_that_takes_the_scorer() -> None:
    """Of `method` and those that are compared: there is one, or nothing is tuned."""
    planned = plan(BASE, "method=snip", "compare=[random, learned]", "tuning.proxy={weight: 1}")

    assert "learned" == planned.steps["trial/0"].options["method"]["criterion"]["name"]
    assert not plan(BASE, "method=snip", "compare=[random]", "tuning.proxy={weight: 1}").of("trial")


@pytest.mark.parametrize(("parallel", "known"), [(1, [0, 1, 2, 3, 4]), (2, [0, 0, 2, 2, 4]), (9, [0, 0, 0, 0, 0])])
def test_a_trial_takes_the_batches_before(parallel: int, known: Sequence[int]) -> None:
    """Trials of one batch take none of each other, so they can run at once; more trials leave them as they are."""
    planned = plan(BASE, "tuning.trials=5", f"tuning.parallel={parallel}")
    more = keys(plan(BASE, "tuning.trials=7", f"tuning.parallel={parallel}"))

    for step, before in zip(planned.of("trial"), known, strict=True):
        assert [f"trial.{n:04d}" for n in range(before)] == [r for r in step.inputs if r.startswith("trial")]
        assert step.key == more[step.name]
        assert parallel == step.options["parallel"]


def test_a_plan_without_a_learned_method_learns_nothing() -> None:
    """If no method needs the scorer, the plan has no IRP."""
    planned = plan(BASE, "method=snip", "compare=[]")

    assert {step.operation for step in planned.steps.values()} & LEARNING == set()
    assert 1 == len(planned.of("data"))


def test_a_loss_is_tuned_where_it_is_named() -> None:
    """Unasked it is not tuned and in no key; named, trials choose it, from the value that the spec has."""
    auto, as_before, named = plan(), plan(BASE, "scorer.loss=squared"), plan(BASE, "tuning.options=[lr, loss]")
    options = named.steps["trial/1"].options

    assert ["width", "depth", "lr"] == list(auto.steps["trial/1"].options["space"])
    assert keys(auto) == keys(as_before)
    assert {"values": ["squared", "ordinal", "pairwise"]} == options["space"]["loss"]
    assert "squared" == options["scorer"]["options"]["loss"]
    assert LEARNING - {"irp", "label"} <= added(auto, plan(BASE, "scorer.loss=ordinal"))


def test_rounds_are_described_only_for_scorers_that_learn_from_them() -> None:
    """Labels of scorer `hazard` are others than those of one that looks at the same features, from the same rounds."""
    groups = "features_used: [magnitude, layer, remaining]"
    before, after = plan(BASE, f"scorer={{name: mlp, {groups}}}"), plan(BASE, f"scorer={{name: hazard, {groups}}}")

    assert "progressive" not in before.steps["label/seed100"].options
    assert {**before.steps["label/seed100"].options, "progressive": 8} == after.steps["label/seed100"].options
    assert "irp" not in added(before, after)


def test_cutout_is_in_the_keys_of_what_trains() -> None:
    """A square of no pixels is as before there were any; with one, all that trains or takes steps is another."""
    before = plan(BASE, "method.horizon=3")
    cut = plan(BASE, "method.horizon=3", "training.cutout=2")

    assert keys(before) == keys(plan(BASE, "method.horizon=3", "training.cutout=0"))
    assert 2 == next(step for step in cut.of("mask") if "training" in step.options).options["training"]["cutout"]
    assert {"irp", "mask", "train"} <= added(before, cut)


@pytest.mark.parametrize(
    ("field", "usual", "other"), [("rescale", "0", "0.5"), ("reparameterization", "none", "sign_in")]
)
def test_options_under_masks_are_in_the_keys_of_masked_trainings(field: str, usual: str, other: str) -> None:
    """At the default no step has the option; at another value only trainings under masks are new, not IRP's rounds."""
    before = plan(BASE, "sanity=true")
    after = plan(BASE, "sanity=true", f"training.{field}={other}")

    assert keys(before) == keys(plan(BASE, "sanity=true", f"training.{field}={usual}"))
    assert not any(field in step.options.get("training", {}) for step in before.steps.values())
    assert {"train", "evaluate", "sanity", "emit"} == added(before, after)
    assert {name for name, key in keys(after).items() if key == keys(before)[name]} >= {
        "train/dense/seed0", "irp/seed100/round1", "mask/learned/0.5/seed0",
    }  # fmt: skip
    assert field in after.steps["train/learned/0.5/seed0"].options["training"]


def test_a_warm_up_is_in_the_keys_of_what_it_trains() -> None:
    """Labels take the steps of IRP's recipe, masks of the scorer those of the spec's; 0 steps are the default."""
    text = BASE.replace("seeds: [100, 101]", "seeds: [100], training: {epochs: 3, lr: 0.4}")
    before, after = plan(text), plan(text, "scorer.warm_up=5")
    label, mask = after.steps["label/seed100"].options, after.steps["mask/learned/0.5/seed0"].options

    assert keys(before) == keys(plan(text, "scorer.warm_up=0"))
    assert LEARNING - {"irp"} | {"mask", "train", "evaluate", "emit"} == added(before, after)
    fields = {*STEP_FIELDS}
    assert (5, 0.4, fields) == (label["warm_up"], label["training"]["lr"], set(label["training"]))
    assert (0.1, fields) == (mask["training"]["lr"], set(mask["training"]))
    assert keys(before)["mask/snip/0.5/seed0"] == keys(after)["mask/snip/0.5/seed0"]
    assert "training" not in before.steps["mask/learned/0.5/seed0"].options


SEARCH = BASE.replace("method: learned", "method: mask_search").replace(
    "[random, snip, dense]",
    "[random, {name: trained, criterion: snip, schedule: {name: linear, rounds: 2, steps: 5}}]",
)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("training.lr=0.2", {"mask_search", "trained"}),
        ("training.batch=64", {"mask_search", "trained"}),
        ("training.epochs=9", set()),
        ("training.label_smoothing=0.1", set()),
        ("training.schedule=steps", set()),
    ],
)
def test_masks_know_the_recipe_they_were_trained_by(override: str, changed: set[str]) -> None:
    """If a schedule trains, the step fields of the recipe are part of its masks' key, and of no others'."""
    before, after = (
        {name: step.key for name, step in plan(SEARCH, *given).steps.items() if step.operation == "mask"}
        for given in ((), (override,))
    )
    result = {name.split("/")[1] for name in before if before[name] != after[name]}

    assert changed == result
    assert before.keys() == after.keys()


def test_a_method_under_two_names_is_run_once() -> None:
    """Equal choices are equal steps; both names are in the report."""
    planned = plan(BASE, "method=snip", "compare=[{name: mine, criterion: snip}]", "controls=[]")
    cells = [(cell.method, cell.mask) for cell in planned.cells if (cell.sparsity, cell.seed) == (0.5, 0)]

    assert [("snip", "mask/snip/0.5/seed0"), ("mine", "mask/snip/0.5/seed0")] == cells
    assert 4 == len(planned.of("mask"))


def test_paths_and_downloads_are_no_part_of_a_key() -> None:
    """The path of a dataset is its access, not its identity."""
    elsewhere = plan(BASE, "dataset={name: cifar10, root: /some/where, download: true}")

    assert keys(plan(BASE, "dataset=cifar10")) == keys(elsewhere)
    assert keys(elsewhere) != keys(plan(BASE, "dataset={name: cifar10, validation: 100}"))
    assert "/some/where" == elsewhere.steps["data/cifar10"].access["dataset"]["options"]["root"]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5, unique=True))
def test_every_budget_has_its_own_steps(budget: list[float]) -> None:
    """However near two sparsities are, neither's steps take the other's place."""
    planned = plan(BASE, f"budget={json.dumps(budget)}", "method=snip", "compare=[]", "controls=[]", "seeds=[0]")

    assert budget == [step.options["sparsity"] for step in planned.of("mask")]
    assert budget == [step.options["sparsity"] for step in planned.of("emit")]


def test_zero_has_no_sign() -> None:
    """Minus zero removes as much as zero."""
    assert keys(plan(BASE, "budget=[0.0]")) == keys(plan(BASE, "budget=[-0.0]"))


if __name__ == "__main__":
    print(json.dumps({name: keys(digits())[name] for name in GOLDEN}, indent=4))  # noqa: T201
