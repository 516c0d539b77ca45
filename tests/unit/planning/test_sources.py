"""Labels from several networks: which IRPs a plan holds, and what it reuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.errors import SpecError
from autosparse.planning.model import Plan
from tests.plans import compiled

BASE = (
    "version: 1\nmodel: resnet8\ndataset: digits\nirp: {rounds: 2, seeds: [100, 101]}\nscorer: mlp\n"
    "tuning: {trials: 1}\ncompare: []\n"
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec with two seeds of labels."""
    path = tmp_path / "spec.yaml"
    path.write_text(BASE)
    return path


def keys(plan: Plan, *operations: str) -> set[str]:
    """The keys of the steps of these operations."""
    return {step.key for step in plan.steps.values() if step.operation in operations}


def test_every_network_has_an_irp_at_every_seed(spec: Path) -> None:
    """Named by network and seed, and the scorer learns from all of them."""
    plan = compiled(spec, "irp.models=[lenet, resnet20]")

    labels = ["label/lenet/seed100", "label/lenet/seed101", "label/resnet20/seed100", "label/resnet20/seed101"]
    assert labels == [step.name for step in plan.of("label")]
    assert set(labels) < set(plan.steps["scorer"].inputs.values())
    assert "irp/resnet20/seed101/round2" in plan.steps


def test_one_network_is_as_model_says(spec: Path) -> None:
    """A list of one is the same plan, key by key."""
    one, listed = compiled(spec, "irp.model=lenet"), compiled(spec, "irp.models=[lenet]")

    assert {name: step.key for name, step in one.steps.items()} == {n: step.key for n, step in listed.steps.items()}


def test_another_network_leaves_what_is_there(spec: Path) -> None:
    """Rounds and labels keep their keys; scorers that learn from more are others."""
    one, two = compiled(spec), compiled(spec, "irp.models=[resnet8, lenet]")

    assert keys(one, "irp", "label") < keys(two, "irp", "label")
    assert one.steps["scorer"].key != two.steps["scorer"].key


def test_networks_of_one_name_are_told_apart(spec: Path) -> None:
    """By their place in the list."""
    plan = compiled(spec, "irp.models=[resnet8, {name: resnet8, width: 8}]", "irp.seeds=100")

    assert ["label/resnet8/seed100", "label/resnet8.2/seed100"] == [step.name for step in plan.of("label")]
    assert plan.steps["label/resnet8/seed100"].key != plan.steps["label/resnet8.2/seed100"].key


def test_own_code_is_relative_to_the_spec(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere else in a spec."""
    (spec.parent / "own.py").write_text(
        "import torch\n\n\ndef net(shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, classes))\n"
    )
    spec.write_text(BASE.replace("irp: {", "irp: {models: [lenet, 'own.py:net'], "))
    (spec.parent / "elsewhere").mkdir()
    monkeypatch.chdir(spec.parent / "elsewhere")

    assert "label/own.py:net/seed100" in compiled(spec).steps


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("irp.models=[lenet, resnet9]", "`irp.models[1]` must be a model"),
        ("irp.models=[lenet, lenet]", "repeats lenet"),
        ("irp={model: lenet, models: [resnet20]}", "and `model` exclude each other"),
        ("irp={models: [lenet, resnet8], seeds: [0]}", "a seed of `seeds`"),
    ],
)
def test_wrong_lists_are_refused(spec: Path, override: str, text: str) -> None:
    """With the place and the rule."""
    with pytest.raises(SpecError, match=text.replace("[", r"\[").replace("]", r"\]")):
        compiled(spec, override)
