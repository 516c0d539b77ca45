"""The choice `updates` of a method: combinations that mean nothing are errors at the place where they are written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from autosparse.core.presets import PRESETS
from autosparse.spec import Method

SPARSE = [name for name, (_, method) in PRESETS.items() if "updates" in method]


@pytest.mark.parametrize("name", SPARSE)
def test_presets_have_a_rule(name: str) -> None:
    """Their choices hold it; those of other methods have no such part, and so the keys of before."""
    choices = Method.model_validate(name).choices()

    assert choices["updates"]["name"] != "none"
    assert "updates" not in Method.model_validate("snip").choices()
    assert "updates" not in Method.model_validate({"preset": name, "updates": "none"}).choices()


@pytest.mark.parametrize(
    ("method", "at", "part"),
    [
        ({"preset": "rigl", "updates": "rigl"}, "updates", "must be an update rule but is"),
        ({"preset": "gmp", "schedule": "search"}, "schedule", "makes masks before training"),
        ({"preset": "gmp", "horizon": "50%"}, "horizon", "makes masks before training"),
        ({"preset": "gmp", "criterion": "snip"}, "criterion", "scores trained weights without images"),
        ({"preset": "ac_dc", "criterion": "learned"}, "criterion", "scores trained weights without images"),
        ({"preset": "gmp", "repair": "reconnect"}, "repair", "starts dense"),
        (
            {"preset": "mask_search", "schedule": {"name": "search", "rewind": False, "train_weights": False}},
            "rewind",
            "leaves no trained weights to keep",
        ),
        (
            {"preset": "mask_search", "schedule": {"name": "search", "shared": True, "rewind": False}},
            "shared",
            "keeps the weights of one budget",
        ),
        (
            {"preset": "mask_search", "selection": "sampled", "schedule": {"name": "search", "shared": True}},
            "shared",
            "does not keep the highest scores",
        ),
        (
            {"preset": "mask_search", "unit": "channel", "schedule": {"name": "search", "shared": True}},
            "shared",
            "is not a single weight",
        ),
        ({"preset": "rigl", "unit": "channel"}, "updates", "changes single weights"),
        ({"preset": "rigl", "unit": "2:4", "allocation": "uniform"}, "updates", "changes single weights"),
        ({"preset": "gmp", "updates": {"name": "gradual", "begin": 0.9, "end": 0.5}}, "updates", "after `end` 0.5"),
        ({"preset": "ac_dc", "updates": {"name": "alternating", "begin": 0.9}}, "updates", "after `end` 0.85"),
        ({"preset": "rigl", "updates": {"name": "drop_and_grow", "share": 0}}, "updates", "greater than 0"),
        ({"preset": "pwmpr", "updates": {"name": "path_growth", "start": 0}}, "updates", "greater than 0"),
        ({"preset": "pwmpr", "updates": {"name": "path_growth", "start": 1.5}}, "updates", "less than or equal to 1"),
    ],
)
def test_wrong_combinations(method: dict[str, Any], at: str, part: str) -> None:
    """Each names its place and the rule."""
    with pytest.raises(ValidationError) as caught:
        Method.model_validate({"name": "own", **method})
    problems: list[Any] = caught.value.errors()

    assert any(part in error["msg"] for error in problems), problems
    assert at in {str(step) for error in problems for step in (*error["loc"], *error.get("ctx", {}).get("at", ()))}


def test_an_added_option_leaves_keys_alone() -> None:
    """`rewind` of a search is in a key only where it is not the default: earlier artifacts stay valid."""
    searched = {"name": "own", "preset": "mask_search"}
    keyed = [
        Method.model_validate({**searched, "schedule": {"name": "search", **given}}).choices()
        for given in ({}, {"rewind": True}, {"rewind": False})
    ]

    assert "rewind" not in keyed[0]["schedule"]["options"]
    assert keyed[0] == keyed[1]
    assert keyed[2]["schedule"]["options"] == {**keyed[0]["schedule"]["options"], "rewind": False}


def test_a_sparse_start_takes_every_other_choice() -> None:
    """Criterion, allocation, selection, schedule, repair and horizon make the masks to start from."""
    for part in ({"criterion": "snip", "allocation": "global"}, {"repair": "reconnect"}, {"horizon": 20}):
        assert Method.model_validate({"name": "own", "preset": "rigl", **part}).updates_masks
