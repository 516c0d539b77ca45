"""A network on the frontier is more accurate than every cheaper one."""

from __future__ import annotations

from typing import Any

import pytest

from autosparse.console.report import show_report
from autosparse.report.cells import frontier
from autosparse.report.schema import MaskCost, Provenance, Report, Result


def report_of(result: dict[str, tuple[float | None, list[float]]]) -> Report:
    """A report of methods: what their masks cost in trainings, and their accuracies at seeds 0, 1, ... at 0.98."""
    same: dict[str, Any] = {
        "kept": 2, "total": 100, "effective_sparsity": 0.98, "macs": 5, "validation_accuracy": 0.0, "dense_macs": 5,
        "effective_macs": 5, "effective_nodes": None, "paths": None, "status": "trained",
        "test_accuracy_low": 0.0, "test_accuracy_high": 100.0,
    }  # fmt: skip
    results = [
        Result(method=method, sparsity=0.98, seed=seed, test_accuracy=accuracy, budget="0.98", **same)
        for method, (_, accuracies) in result.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return Report(
        schema_version=1, run="runs/s-1", spec="s", model="resnet8", dataset="digits", method=next(iter(result)),
        steps={"run": 1, "reuse": 0, "resume": 0}, seconds=1.0, provenance=Provenance("", "", [0], {}, []),
        results=results, controls=[], irp=[], scorer={},
        emitted=[], cost={}, warnings=[], unprunable={}, oracles=[], sanity=[], verdicts=[], profiles=[], timeline=[],
        failures=[], missing=[], chance=10.0, test_images=1000, validation_images=1000,
        mask_costs=[MaskCost(method, "0.98", 1.0, cost, 0, 0, 0) for method, (cost, _) in result.items()],
    )  # fmt: skip


RESULTS: dict[str, tuple[float | None, list[float]]] = {
    "irp": (7.0, [95.0, 95.0]),
    "erk": (0.0, [90.0, 92.0]),
    "snip": (0.004, [80.0, 82.0]),
    "search": (0.5, [94.0, 96.0]),
    "slow": (0.6, [90.0, 90.0]),
    "untimed": (None, [99.0, 99.0]),
}


def test_the_cheapest_come_first() -> None:
    """Means over seeds by cost; of equal costs the more accurate first."""
    points = frontier(report_of(RESULTS), "0.98")

    assert ["erk", "snip", "search", "slow", "irp"] == [point.method for point in points]
    assert [91.0, 81.0, 95.0, 90.0, 95.0] == [point.accuracy for point in points]
    assert [1.0, 1.004, 1.5, 1.6, 8.0] == [point.trainings for point in points]
    assert {1.0} == {point.seconds for point in points}


def test_best_is_what_nothing_cheaper_reaches() -> None:
    """A method that is only as accurate as a cheaper one is not best, however good."""
    best = {point.method for point in frontier(report_of(RESULTS), "0.98") if point.best}

    assert {"erk", "search"} == best


def test_the_report_draws_it(capsys: pytest.CaptureFixture[str]) -> None:
    """If masks take training, a bar for each method; if none does, nothing."""
    show_report(report_of(RESULTS), ["frontier"])
    drawn = capsys.readouterr().out
    show_report(report_of({"erk": (0.0, [90.0]), "snip": (0.05, [80.0])}), ["frontier"])
    plain = capsys.readouterr().out

    assert "accuracy against the cost of mask and training at sparsity 0.98" in drawn
    bars = {line.split()[0]: line.split()[4:] for line in drawn.splitlines() if "█" in line}
    assert "95.00*" == bars["search"][0]
    assert "95.00" == bars["irp"][0]
    assert len(bars["search"][1]) == len(bars["irp"][1]) > len(bars["erk"][1])
    assert ["erk", "1.00", "1.0", "s"] == next(line.split()[:4] for line in drawn.splitlines() if "erk" in line)
    assert "against the cost" not in plain


def test_any_higher_cost_must_buy_accuracy() -> None:
    """Counted costs are exact: a thousandth of a training more is more."""
    close = {"erk": (0.0, [90.0]), "igq": (0.001, [91.0]), "snip": (0.002, [91.0])}

    assert ["erk", "igq"] == [point.method for point in frontier(report_of({**close}), "0.98") if point.best]


def test_values_that_are_no_costs_are_left_out() -> None:
    """An edited report may hold any number: not-a-number, infinity and costs below 0 stand on no axis."""
    odd = {"erk": (0.0, [90.0]), "a": (float("nan"), [91.0]), "b": (float("inf"), [92.0]), "c": (-1.0, [93.0])}

    assert ["erk"] == [point.method for point in frontier(report_of({**odd}), "0.98")]


def test_a_mask_without_a_trained_network_is_on_no_frontier() -> None:
    """Its cost is known, its accuracy is not."""
    assert ["erk"] == [point.method for point in frontier(report_of({"erk": (0.0, [90.0]), "snip": (0.1, [])}), "0.98")]
