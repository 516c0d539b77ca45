"""`compare: {methods: [...], lr: [...]}`: fields of the recipe that every method chooses for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import SpecError
from autosparse.spec import load_spec, take_spec

SPEC = {"model": "lenet", "dataset": "digits", "method": "snip"}


def recipes_of(compare: Any, **others: Any) -> tuple[dict[str, Any], ...]:
    """The candidates of a spec with this comparison."""
    return load_spec({**SPEC, **others, "compare": compare}).spec.recipes


def test_a_mapping_is_a_list_and_its_fields() -> None:
    """All combinations in the written order; a list has none; the resolved form is the same spec."""
    assert () == recipes_of(["dense"])
    assert ({"lr": 0.1}, {"lr": 0.2}) == recipes_of({"methods": ["dense"], "lr": [0.1, 0.2]})
    several = recipes_of({"lr": [0.1, 0.2], "label_smoothing": [0.0, 0.1]})
    assert [(0.1, 0.0), (0.1, 0.1), (0.2, 0.0), (0.2, 0.1)] == [tuple(one.values()) for one in several]

    spec = load_spec({**SPEC, "compare": {"methods": ["dense"], "lr": [0.1, 0.2]}}).spec
    assert ("dense",) == spec.compare
    assert spec == take_spec(spec.model_dump(mode="json"), "spec").spec


def test_the_default_methods_stay() -> None:
    """Without `methods` the comparison is the usual one."""
    usual, several = (load_spec({**SPEC, **given}).spec for given in ({}, {"compare": {"lr": [0.1, 0.2]}}))

    assert usual.compare == several.compare


WRONG = [
    ("{methods: [dense], lr: 0.1}", "5:33", "`compare.lr` must be a list"),
    ("{methods: [dense], lr: [0.1]}", "5:33", "`compare.lr` leaves one value to choose from"),
    ("{methods: [dense], lr: [0.1, 0.1]}", "5:39", "`compare.lr[1]` repeats 0.1"),
    ("{methods: [dense], lr: [0.1, -1]}", "5:39", "`compare.lr[1]` is no `training.lr`"),
    ("{methods: [dense], lr: [0.1, true]}", "5:39", "`compare.lr[1]` is no `training.lr`"),
    ("{methods: [dense], rate: [0.1, 0.2]}", "5:35", "`compare.rate` must be a field of `training`"),
    ("{methods: [dense], precision: [float32, bfloat16]}", "5:40", "changes the speed of a training, not the method"),
    ("{methods: [snap], lr: [0.1, 0.2]}", "5:21", "`compare.methods[0]` must be a method"),
    ("{methods: dense, lr: [0.1, 0.2]}", "5:20", "`compare.methods` must be a list"),
]


@pytest.mark.parametrize(("compare", "position", "part"), WRONG)
def test_mistakes_have_their_place(compare: str, position: str, part: str, tmp_path: Path) -> None:
    """As written, not as it is stored."""
    path = tmp_path / "spec.yaml"
    path.write_text(f"version: 1\nmodel: lenet\ndataset: digits\nmethod: snip\ncompare: {compare}\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)

    assert f":{position}: " in str(caught.value)
    assert part in str(caught.value)


def test_checks_take_one_recipe() -> None:
    """Sanity checks compare with the method under the recipe of the spec."""
    with pytest.raises(SpecError, match="trains by one recipe"):
        recipes_of({"lr": [0.1, 0.2]}, sanity=True)


def test_an_option_changes_the_values(tmp_path: Path) -> None:
    """`--set compare.lr=...` takes the place of the written list."""
    path = tmp_path / "spec.yaml"
    path.write_text("{model: lenet, dataset: digits, method: snip, compare: {lr: [0.1, 0.2]}}", encoding="utf-8")
    spec = load_spec(path, overrides=["compare.lr=[0.3, 0.4, 0.5]"]).spec

    assert [0.3, 0.4, 0.5] == [one["lr"] for one in spec.recipes]


def test_options_change_either_form(tmp_path: Path) -> None:
    """A list of methods replaces those of a mapping and keeps its fields; a field makes a mapping of a list."""
    path = tmp_path / "spec.yaml"
    path.write_text("{model: lenet, dataset: digits, method: snip, compare: {methods: [igq], lr: [0.1, 0.2]}}")
    spec = load_spec(path, overrides=["compare=[dense]"]).spec
    assert (("dense",), 2) == (spec.compare, len(spec.recipes))
    path.write_text("{model: lenet, dataset: digits, method: snip, compare: [dense]}")
    spec = load_spec(path, overrides=["compare.lr=[0.3, 0.4]"]).spec
    assert (("dense",), 2) == (spec.compare, len(spec.recipes))
    with pytest.raises(SpecError, match="must be a method") as caught:
        load_spec(path, overrides=["compare.methods=[snap]", "compare.lr=[0.3, 0.4]"])
    assert "--set compare.methods=[snap]" in str(caught.value)


def test_values_are_those_of_a_recipe() -> None:
    """A whole number stands for the same number; a key holds one form."""
    assert ({"lr": 1.0}, {"lr": 2.0}) == recipes_of({"lr": [1, 2]})
    assert isinstance(recipes_of({"lr": [1, 2]})[0]["lr"], float)


def test_there_are_not_too_many() -> None:
    """The product of all values is limited, at once."""
    many = [number / 1000 for number in range(300)]
    with pytest.raises(SpecError, match="27,000,000 combinations of values"):
        recipes_of({"momentum": many, "warmup": many, "label_smoothing": many})
