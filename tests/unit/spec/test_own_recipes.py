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
    ("{methods: [dense], lr: 0.1}", "5:30", "`compare.lr` must be a list"),
    ("{methods: [dense], lr: [0.1]}", "5:30", "`compare.lr` leaves one value to choose from"),
    ("{methods: [dense], lr: [0.1, 0.1]}", "5:36", "`compare.lr[1]` repeats 0.1"),
    ("{methods: [dense], lr: [0.1, -1]}", "5:36", "`compare.lr[1]` is no `training.lr`"),
    ("{methods: [dense], lr: [0.1, true]}", "5:36", "`compare.lr[1]` is no `training.lr`"),
    ("{methods: [dense], rate: [0.1, 0.2]}", "5:26", "`compare.rate` must be a field of `training`"),
    ("{methods: [dense], precision: [float32, bfloat16]}", "5:31", "belongs to the machine"),
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

    assert part in str(caught.value)
    assert f":{position.partition(':')[0]}:" in str(caught.value)


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
