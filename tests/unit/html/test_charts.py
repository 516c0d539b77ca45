"""Plots as Vega-Lite: marks stand where their numbers are, and names are data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from autosparse.html import charts, effort_charts, frontier_charts
from autosparse.html.page import plots_of, report_page
from autosparse.html.render import json_for_script, png_of, svg_of
from autosparse.html.theme import svg_rules
from autosparse.report.cells import columns_of
from autosparse.report.schema import LayerShare, Made, MaskCost, Missing, Profile, Report
from autosparse.report.significance import mean_interval
from tests.docs.outputs import INCOMPLETE, REPORTS

NAMES = {"accuracy", "frontier", "frontier_seconds", "layers", "irp", "tuning", "cost"}
FIELDS = {
    "row", "series", "at", "from", "to", "interval", "label", "text", "seeds", "dense", "cost", "label_at", "name",
    "accuracy", "mask",
    "trainings", "layer", "share", "kept", "size", "effective", "number", "left", "round", "trial", "value", "best",
    "settings", "purpose", "seconds", "begin", "end", "lane", "step",
}  # fmt: skip
HOSTILE = ["a.b[c]", "x['y']", 'q"uote', "</script><script>alert(1)</script>", "datum.at", "\\", "{}", "__proto__", ""]


@pytest.fixture(params=REPORTS, ids=lambda file: file.parent.name)
def report(request: pytest.FixtureRequest) -> Report:
    """A finished run of digits."""
    return Report.of(json.loads(request.param.read_text(encoding="utf-8")))


@pytest.fixture
def digits() -> Report:
    """A finished run of digits with a collapsed method."""
    return Report.of(json.loads(REPORTS[0].read_text(encoding="utf-8")))


def rows_of(plot: charts.Plot | None) -> list[dict[str, Any]]:
    """Return all rows of a plot's data sets."""
    assert plot is not None
    return [row for rows in plot.spec["datasets"].values() for row in rows]


def walk(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every name and value of a specification without its data."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key != "datasets":
                yield key, part
                yield from walk(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part, name)


def renamed(report: Report, name: str) -> Report:
    """Return the report with a name for its method, spec, layers, scorer and steps."""
    results = [replace(one, method=name) if one.method == report.method else one for one in report.results]
    costs = [replace(one, method=name) if one.method == report.method else one for one in report.mask_costs]
    profiles = [replace(one, layers=[LayerShare(name, 10, 5), *one.layers]) for one in report.profiles]
    profiles = [replace(one, method=name) if one.method == report.method else one for one in profiles]
    return replace(
        report, spec=name, method=name, model=name, dataset=name, results=results, mask_costs=costs, profiles=profiles,
        scorer={**report.scorer, "name": name, "objective": name}, timeline=[Made(name, "network", 0.0, 1.0)],
        irp=[{**item, "source": name} for item in report.irp],
    )  # fmt: skip


def test_a_report_has_its_plots(report: Report) -> None:
    """Without those that have nothing to draw: these runs record no timeline."""
    assert NAMES == plots_of(report).keys()


@pytest.mark.parametrize(
    ("values", "low"),
    [
        ([90.0, 92.0, 95.0, 97.0, 98.0, 8.0], 89.5),  # one collapsed
        ([90.0, 92.0, 95.0, 97.0, 98.0, 60.0, 8.0], 89.5),
        ([90.0, 92.0, 8.0, 9.0, 7.0], 2.75),  # too many are outliers
        ([98.0, 98.1, 98.2, 98.3, 90.0], 89.5),  # no squeeze to speak of
        ([10.0, 10.0, 10.0, 10.0], 9.5),
        ([98.0], 97.5),
        ([0.0, 50.0], 0.0),
    ],
)
def test_the_accuracy_axis_begins_near_the_data(values: list[float], low: float) -> None:
    """Outliers do not squeeze it; without any it holds all values."""
    assert low == pytest.approx(charts.floor_of(values))


def test_every_accuracy_has_a_mark(digits: Report) -> None:
    """At its value, or at the lower end of the axis with its number."""
    rows = [row for row in rows_of(charts.accuracy_plot(digits)) if "mean" in row]
    shown = {(row["row"], row["series"]): row for row in rows}
    low = min(row["at"] for row in rows)

    for result in digits.results:
        if result.method != "dense":
            row = shown[result.method, f"sparsity {result.budget}"]
            assert row["mean"] == result.test_accuracy
            assert bool(row["label"]) == (row["mean"] < low)
            assert row["label"].startswith(f"{row['mean']:.1f}" if row["mean"] < low else "")
            assert row["at"] == max(low, row["mean"])
    assert shown["magnitude", "sparsity 0.9"]["label"].startswith("7.7")
    assert 60 < low < 90


def test_the_dense_network_is_a_rule(digits: Report) -> None:
    """In both plots of accuracy, with its number in the note."""
    dense = next(one.test_accuracy for one in digits.results if one.method == "dense")

    for plot in (charts.accuracy_plot(digits), frontier_charts.frontier_plot(digits)):
        assert [dense] == [row["dense"] for row in rows_of(plot) if "dense" in row]
        assert plot is not None
        assert f"dense network ({dense:.1f} %)" in plot.note


def test_a_cell_without_a_result_shows_its_status() -> None:
    """At the lower end of the axis."""
    report = Report.of(json.loads(INCOMPLETE["run"].read_text(encoding="utf-8")))
    rows = {(row["row"], row["series"]): row for row in rows_of(charts.accuracy_plot(report)) if "mean" in row}

    assert "diverged" == rows["random", "sparsity 0.9"]["label"]
    assert "failed" == rows["odd", "15.5% macs"]["label"]
    svg_of(charts.accuracy_plot(report).file_spec)  # type: ignore[union-attr]


def test_a_part_of_the_seeds_keeps_its_mark(digits: Report) -> None:
    """A mean over the seeds that are left stands at its value."""
    lost = replace(digits, missing=[Missing("snip", "0.9", 0.9, 1, False, "diverged", "train")])
    row = next(
        row
        for row in rows_of(charts.accuracy_plot(lost))
        if (row.get("row"), row.get("series")) == ("snip", "sparsity 0.9")
    )

    assert ("1 diverged", row["mean"]) == (row["label"], row["at"])
    assert not row["outside"]
    assert row["right"]  # its label would leave the plot


@pytest.mark.parametrize("status", ["at chance", "collapsed"])
def test_networks_that_have_not_learned_are_labelled(digits: Report, status: str) -> None:
    """Also where their mark is inside the axis."""
    results = [replace(one, status=status if one.method == "snip" else "trained") for one in digits.results]
    rows = [row for row in rows_of(charts.accuracy_plot(replace(digits, results=results))) if "mean" in row]
    inside = [row for row in rows if row["row"] == "snip"]

    assert inside
    assert all((status, row["mean"]) == (row["label"], row["at"]) for row in inside)


def test_the_note_explains_the_arrows(digits: Report) -> None:
    """Those of low values and those of networks without a result."""
    without_low = replace(digits, results=[one for one in digits.results if one.method != "magnitude"])
    lost = [Missing("odd", "0.9", 0.9, 0, False, "failed", "x")]

    def note(report: Report) -> str:
        plot = charts.accuracy_plot(report)
        assert plot is not None
        return plot.note.partition("stand for ")[2].partition(".")[0]

    even = replace(without_low, results=[replace(one, test_accuracy=90.0) for one in without_low.results], controls=[])
    assert "" == note(even)
    assert "networks without a result" == note(replace(even, missing=lost))
    assert "values below the axis" == note(digits)
    assert "values below the axis or networks without a result" == note(replace(digits, missing=lost))


def test_marks_of_many_series_differ() -> None:
    """By colour and shape together; 42 pairs."""
    colour, shape = charts.colours_of([str(number) for number in range(42)])
    encodings: list[Any] = [colour.to_dict(), shape.to_dict()]
    ranges = [one["scale"]["range"] for one in encodings]

    assert 42 == len({*zip(*ranges, strict=True)})


def test_numbers_that_are_not_finite_are_null(digits: Report) -> None:
    """A page with them is valid JSON."""
    odd = replace(
        digits,
        results=[replace(one, test_accuracy=float("nan")) if one.method == "snip" else one for one in digits.results],
    )

    assert "</html>" in report_page(odd)
    assert [None, None, 1.5] == json.loads(json_for_script({"a": [float("nan"), float("inf"), 1.5]}))["a"]


def test_bars_are_intervals(digits: Report) -> None:
    """Of the test images for one seed, and of the seeds for several; within 0 to 100 %, cut at the end of the axis."""
    other = (replace(one, seed=1, test_accuracy=one.test_accuracy - 2) for one in digits.results)
    several = replace(digits, results=[*digits.results, *other])
    for report, over in ((digits, "300 test images."), (several, "300 test images and the seeds.")):
        plot = charts.accuracy_plot(report)
        rows = [row for row in rows_of(plot) if row.get("from") is not None]

        assert plot is not None
        assert f"Bars are 95 % confidence intervals over {over}" in plot.note
        assert rows
        for row in rows:
            both = [row["mean"] + 1, row["mean"] - 1]
            interval = mean_interval(both if row["seeds"] == 2 else [row["mean"]], 300)
            assert row["to"] == pytest.approx(interval.high)
            assert 0 <= row["from"] <= row["mean"]


def test_an_axis_of_networks_at_chance_begins_at_zero(digits: Report) -> None:
    """Their differences are none: no method is on the frontier, and the others' axis holds their noise."""
    useless = [
        replace(one, status="at chance", test_accuracy=10.4 if one.method == "snip" else 7.9) for one in digits.results
    ]
    plot = charts.accuracy_plot(replace(digits, results=useless, controls=[]))
    trained = [one if one.method in ("irp", "erk") else replace(one, status="at chance") for one in digits.results]
    frontier = frontier_charts.frontier_plot(replace(digits, results=trained))

    assert plot is not None
    assert frontier is not None
    domains = [value for name, value in walk(plot.spec) if name == "domain" and isinstance(value, list)]
    domains = [domain for domain in domains if isinstance(domain[0], float)]
    assert domains
    assert {0.0} == {low for low, _ in domains}
    assert "dense network" not in plot.note  # no reference
    assert frontier_charts.frontier_plot(replace(digits, results=useless)) is None
    assert {"irp", "erk"} == {row["name"] for row in rows_of(frontier) if "name" in row}
    assert "Left out, not above chance: learned+50pct, learned, random" in frontier.note


def test_labels_of_the_frontier_cover_nothing(digits: Report) -> None:
    """Methods of the same cost and accuracy have labels one above another."""
    costs = [replace(one, trainings=0.001) for one in digits.mask_costs]
    rows = rows_of(frontier_charts.frontier_plot(replace(digits, mask_costs=costs)))
    heights = sorted(row["label_at"] for row in rows if "label_at" in row)

    assert 7 < len(heights)
    assert all(high - low > 0.1 for low, high in pairwise(heights))


def test_the_axis_of_costs_is_logarithmic(digits: Report) -> None:
    """Costs of masks and training together; costs that are all equal make an axis too."""
    plot = frontier_charts.frontier_plot(digits)
    rows = {row["name"]: row for row in rows_of(plot) if "cost" in row}
    axis = frontier_charts.CostAxis.of([row["cost"] for row in rows.values()])

    assert plot is not None
    assert {1.0} == {rows[name]["cost"] for name in ("random", "erk")}
    assert 0 < axis.at(1.0) < axis.at(rows["snip"]["cost"]) < axis.at(rows["irp"]["cost"]) < 1
    assert "log" in [value for name, value in walk(plot.spec) if name == "type"]
    assert 1.0 in axis.ticks
    costs = [MaskCost(one.method, one.budget, 0.0, 0.0, 0, 0, 0) for one in digits.mask_costs]
    plot = frontier_charts.frontier_plot(replace(digits, mask_costs=costs))

    assert plot is not None
    assert {1.0} == {row["cost"] for row in rows_of(plot) if "cost" in row}
    assert ">1</text>" in svg_of(plot.spec)


@pytest.mark.parametrize("costs", [[1.0], [1.0, 1.02], [0.3, 1.0, 1.5], [1.0, 9.0], [1.0, 60.0], [0.0, 5.0], [0.0]])
def test_an_axis_of_any_costs_has_a_few_ticks(costs: list[float]) -> None:
    """One to ten of them, inside the axis, and every mark inside it as well."""
    axis = frontier_charts.CostAxis.of(costs)

    assert 1 <= len(axis.ticks) <= 10
    assert all(0 < axis.at(cost) < 1 for cost in costs)


def test_seconds_have_a_plot_apart(digits: Report) -> None:
    """Each mark at its measured seconds, without the line of the frontier, which counted costs decide."""
    counted, timed = frontier_charts.frontier_plot(digits), frontier_charts.seconds_plot(digits)
    label = [*columns_of(digits)][-1]
    costs = (cost for cost in digits.mask_costs if cost.budget == label)
    seconds = {
        cost.method: cost.seconds + cost.training_seconds for cost in costs if cost.method != "magnitude"
    }  # a layer collapse

    assert counted is not None
    assert timed is not None
    assert seconds == {row["name"]: row["cost"] for row in rows_of(timed) if "cost" in row}
    assert [True, False] == ["step-after" in json.dumps(plot.spec) for plot in (counted, timed)]


@pytest.mark.parametrize("accuracy", [0.0, 50.0, 100.0])
def test_equal_accuracies_make_an_axis(digits: Report, accuracy: float) -> None:
    """Of some length, with all marks inside."""
    results = [replace(one, test_accuracy=accuracy) for one in digits.results]
    even = replace(digits, results=results, controls=[])

    for plot in (charts.accuracy_plot(even), frontier_charts.frontier_plot(even), frontier_charts.seconds_plot(even)):
        assert plot is not None
        domains = [value for name, value in walk(plot.spec) if name == "domain" and isinstance(value, list)]
        ends = [domain for domain in domains if not isinstance(domain[0], str)]
        assert ends
        assert all(low < high for low, high in ends)
        assert any(low <= accuracy <= high for low, high in ends)
        svg_of(plot.spec)


def test_trials_without_a_value_are_left_out(digits: Report) -> None:
    """Failed ones, and those whose value is not a number; the others keep their numbers."""
    scorer = {**digits.scorer, "trials": [0.5, None, float("nan"), 0.4, 0.6], "settings": []}
    rows = rows_of(effort_charts.trials_plot(replace(digits, scorer=scorer)))

    assert [(1, 0.5, 0.5), (4, 0.4, 0.5), (5, 0.6, 0.6)] == [(row["trial"], row["value"], row["best"]) for row in rows]


def test_layers_have_their_whole_names(digits: Report) -> None:
    """Also two hundred of them, with an empty one at the left edge of the logarithmic axis."""
    layers = [LayerShare(f"encoder.layers.{number}.self_attention.out_proj.weight", 1000, 10) for number in range(200)]
    layers[7] = replace(layers[7], kept=0)
    plot = charts.layers_plot(replace(digits, profiles=[Profile(digits.method, "0.98", 0, layers)]))
    assert plot is not None
    drawn, rows = svg_of(plot.spec), rows_of(plot)

    assert all(f">{layer.name.removesuffix('.weight')}</text>" in drawn for layer in layers)
    assert plot.spec["height"] > 2000
    assert (0.0, 0.1) == (rows[7]["share"], rows[7]["at"])
    assert (1.0, 1.0) == (rows[8]["share"], rows[8]["at"])
    assert {"log"} == {value["type"] for name, value in walk(plot.spec) if name == "scale" and "type" in value}


def test_rounds_stand_at_the_weights_that_they_train(digits: Report) -> None:
    """The first trains all; the accuracy of a round is that before it prunes."""
    rows = rows_of(effort_charts.rounds_plot(digits))

    assert [100.0, *(100 * item["kept"] / item["total"] for item in digits.irp[:-1])] == [row["left"] for row in rows]
    assert [item["validation_accuracy"] for item in digits.irp] == [row["accuracy"] for row in rows]


def test_parallel_steps_have_lanes(digits: Report) -> None:
    """Steps that follow each other share one."""
    steps = [Made(name, "network", begin, 2.0) for name, begin in (("a", 0.0), ("b", 1.0), ("c", 2.0), ("d", 3.0))]
    rows = rows_of(effort_charts.timeline_plot(replace(digits, timeline=steps)))

    assert [("a", 1), ("b", 2), ("c", 1), ("d", 2)] == [(row["step"], row["lane"]) for row in rows]


@pytest.mark.parametrize("name", [HOSTILE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE[1:])])
def test_names_are_data_of_a_plot(digits: Report, name: str) -> None:
    """No field, expression or transformation holds one; every plot is drawn with it."""
    for plot in plots_of(renamed(digits, name)).values():
        for key, value in walk(plot.spec):
            if key in ("field", "x2", "y2") and isinstance(value, str):
                assert value in FIELDS
            if key in ("expr", "labelExpr", "filter", "test"):
                assert "alert" not in str(value)
                assert value in WRITTEN
        svg_of(plot.file_spec)


WRITTEN = {
    "isValid(datum.from)", "datum.best", "datum.below", "!datum.below", "datum.right", "!datum.right", "datum.main",
    "format(datum.value, '~g')", "datum.value < 0.01 ? '< 0.01' : format(datum.value, '~g')",
}  # fmt: skip
"""every expression of the plots"""


@pytest.mark.parametrize("name", HOSTILE)
def test_data_in_a_page_ends_nothing(digits: Report, name: str) -> None:
    """No text of it closes the element, and a script reads back the same."""
    for plot in plots_of(renamed(digits, name)).values():
        text = json_for_script(plot.spec)

        assert not {"<", ">", "&"} & {*text}
        assert json.loads(text) == json.loads(json.dumps(plot.spec))


def test_invisible_characters_are_marked(digits: Report) -> None:
    """Those that turn text around too, in pages and files."""
    plot = charts.layers_plot(renamed(digits, "a\x1b[31m\u202eb"))
    assert plot is not None

    for text in (svg_of(plot.spec), json_for_script(plot.spec)):
        assert "a?[31m?b" in text
        assert not {"\x1b", "\u202e", "\\u202e", "\\u001b"} & {*re.findall(r"\\u[0-9a-f]{4}|[^ -~]", text)}


def test_every_colour_has_a_dark_counterpart(report: Report) -> None:
    """A file follows the reader's theme with all that it draws."""
    known = {*re.findall(r"\[fill='(#\w+)' i\]", svg_rules())}
    for plot in plots_of(report).values():
        drawn = svg_of(plot.file_spec)
        used = {*re.findall(r' (?:fill|stroke)="([^"]+)"', drawn)}

        assert "prefers-color-scheme: dark" in drawn
        assert {"#ffffff"} < used - {"none", "transparent"} <= known


def test_pictures_are_large_enough_to_read(digits: Report) -> None:
    """At least two pixels for each unit of a plot, on white."""
    plot = charts.accuracy_plot(digits)
    assert plot is not None
    picture = png_of(plot.file_spec)
    width = int.from_bytes(picture[16:20], "big")

    assert b"\x89PNG" == picture[:4]
    assert 2 * charts.WIDTH <= width
