"""The report's form: what a run writes is read again, and anything else is refused, whatever the value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autosparse.report.schema import Report
from autosparse.store.sealed import unseal

RUNS = Path(__file__).parent.parent.parent / "fixtures" / "runs"


@pytest.fixture(scope="module")
def value() -> dict[str, Any]:
    """The report of a finished run with a scorer, IRP and emitted models."""
    known: dict[str, Any] = unseal((RUNS / "digits-1" / "report.json").read_bytes())
    known.pop("seal", None)
    return known


def numbers_of(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of the numbers in a report; of a list those of its first item."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, part in pairs:
        yield from numbers_of(part, (*before, name))
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield before


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a report with another value at a path."""
    part: Any = {**value} if isinstance(value, dict) else [*value]
    name, *rest = path
    part[name] = changed(part[name], tuple(rest), new) if rest else new
    return part


def test_a_report_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    """JSON holds no tuples, and a report no infinite numbers."""
    assert value == json.loads(json.dumps(Report.of(value).json(), allow_nan=False))


def test_a_layer_may_be_empty(value: dict[str, Any]) -> None:
    """As `Linear(0, n)`, which is a prunable layer without a weight."""
    empty = {"name": "none", "size": 0, "kept": 0}
    report = Report.of(changed(value, ("profiles", 0, "layers", 0), empty))

    assert 0 == report.profiles[0].layers[0].size


FREE = {"options", "tuned", "settings", "defaults", "space", "recipe"}  # of any form, but finite


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "odd", []])
def test_odd_numbers_are_refused(value: dict[str, Any], odd: Any) -> None:
    """Costs, seconds, accuracies and counts of every section, not finite or of another type."""
    for path in numbers_of(value):
        if isinstance(odd, float) or FREE.isdisjoint(path):
            with pytest.raises(ValidationError):
                Report.of(changed(value, path, odd))


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        (("cost", "network"), float("inf")),
        (("cost", "network"), 10**400),
        (("irp",), [{}]),
        (("irp",), [[]]),
        (("irp", 0, "total"), 0),
        (("scorer",), {"name": "mlp"}),
        (("scorer",), []),
        (("scorer", "trials"), [1.0]),
        (("scorer", "options"), {"lr": float("nan")}),
        (("provenance", "recipe"), {"lr": float("inf")}),
        (("emitted",), None),
        (("results",), [None]),
        (("steps",), {"ran": 1}),
    ],
)
def test_sections_of_another_form_are_refused(value: dict[str, Any], path: tuple[Any, ...], odd: Any) -> None:
    """Infinite costs, rounds without their fields, half a scorer."""
    with pytest.raises(ValidationError):
        Report.of(changed(value, path, odd))
