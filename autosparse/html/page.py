"""Self-contained HTML report: plots, tables and text in light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from statistics import fmean, stdev

from autosparse.html.svg import STYLE, Series, Span, bar_chart, escaped, line_chart, timeline_chart
from autosparse.plan.model import PURPOSES
from autosparse.report import cells
from autosparse.report.finished import LEAST
from autosparse.report.schema import Report
from autosparse.text import seconds

_PAGE = """
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p { margin: 0.4rem 0; }
.soft { color: var(--soft); } .warning { border-left: 4px solid var(--s1); padding-left: 0.7rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.8rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.main td { font-weight: 600; } svg { width: 100%; height: auto; }
"""
_BESIDE = 4  # methods whose layers are drawn


def plots_of(report: Report) -> dict[str, str]:
    """Return the report's plots by name, each an SVG, without empty ones."""
    drawn = {
        "accuracy": _accuracy(report),
        "layers": _layers(report),
        "irp": _irp(report),
        "tuning": _tuning(report),
        "cost": _cost(report),
        "timeline": timeline_chart("timeline of the steps", *_made(report)),
    }
    return {name: plot for name, plot in drawn.items() if plot}


def report_page(report: Report) -> str:
    """Return the whole page."""
    plots = plots_of(report)
    weights = f"{report.results[0].total:,} prunable weights; " if report.results else ""
    title = f"{report.spec}: {report.model} on {report.dataset}"
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="soft">{weights}method {escaped(report.method)}; run {escaped(report.run)}</p>',
        *(["<h2>What came out</h2>", _emitted(report)] if report.emitted else []),
        "<h2>How good</h2>",
        plots.get("accuracy", ""),
        _accuracies(report),
        "<h2>Can it be believed</h2>",
        *(f"<p>{escaped(sentence)}</p>" for sentence in cells.verdict_sentences(report)),
        *(f'<p class="warning">{escaped(warning)}</p>' for warning in report.warnings),
    ]
    headings = {"layers": "Where the weights went", "irp": "Iterative rewind pruning", "tuning": "The scorer"}
    for name, heading in {**headings, "cost": "What it cost"}.items():
        if name in plots:
            body += [f"<h2>{heading}</h2>", plots[name], plots.get("timeline", "") if name == "cost" else ""]
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{escaped(title)}</title>"
    theme = '<meta name="color-scheme" content="light dark">'
    inner = "\n".join(part for part in body if part)
    style = f"<style>{STYLE}{_PAGE}</style>"
    return f"<!doctype html>\n<html lang='en'><head>{head}{theme}{style}</head>\n<body>\n{inner}\n</body></html>\n"


def _accuracy(report: Report) -> str:
    columns, rows, series = cells.columns_of(report), cells.rows_of(report), []
    if len(columns) == 1:  # one column: points instead of lines
        (title,) = columns.values()
        accuracies = [(row.title, row.cells[0]) for row in rows if row.cells[0]]
        bars = [(name, fmean(values), cells.spread_of(values)) for name, values in accuracies]
        return bar_chart(f"test accuracy in % after the last epoch, {title}", sorted(bars, key=lambda bar: -bar[1]))
    for row in rows:
        measured = [(float(index), values) for index, values in enumerate(row.cells) if values]
        points = [(index, fmean(values)) for index, values in measured]
        spread = [stdev(values) if len(values) > 1 else 0.0 for _, values in measured]
        if points:
            main = row.name == report.method and not row.control
            series.append(Series(row.title, points, spread, main=main, apart=row.apart))
    series.sort(key=lambda one: (not one.main, one.apart, -one.points[-1][1]))
    names = [title.removeprefix("sparsity ") for title in columns.values()]
    beside = ", mean ± sd" if any(any(one.spread) for one in series) else ""
    return line_chart(f"test accuracy after the last epoch{beside}", "sparsity or budget", "%", series, names)


def _layers(report: Report) -> str:
    columns = list(cells.columns_of(report).items())
    if not columns or not report.profiles:
        return ""
    label, title = columns[-1]
    by_method = {profile.method: profile for profile in report.profiles if profile.budget == label}
    shown = [by_method[method] for method in cells.method_first(report, label) if method in by_method][:_BESIDE]
    series = []
    for profile in shown:
        shares = (max(LEAST, layer.kept / max(1, layer.size)) for layer in profile.layers)
        points = [*enumerate(math.log10(share) + 2 for share in shares)]
        series.append(Series(profile.method, points, main=profile.method == report.method))
    names = [layer.name.removesuffix(".weight").rpartition(".")[2] for layer in shown[0].layers] if shown else []
    return line_chart(f"kept weights of each layer at {title}", "layer", "log10 of %", series, names)


def _irp(report: Report) -> str:
    series = [
        Series(source, [(float(item["round"]), item["validation_accuracy"]) for item in rounds])
        for source, rounds in cells.rounds_by_source(report).items()
    ]
    return line_chart("validation accuracy after each round of IRP", "round", "%", series)


def _tuning(report: Report) -> str:
    trials = [value for value in report.scorer.get("trials", ()) if value is not None]
    if len(trials) < 2:
        return ""
    series = [Series("trial", [*enumerate(trials)])]
    series.append(Series("best so far", [*enumerate(accumulate(trials, max))], main=True))
    return line_chart(f"tuning of scorer {report.scorer['name']}", "trial", "objective", series)


def _cost(report: Report) -> str:
    known = [(title, report.cost[name]) for name, title in PURPOSES.items() if report.cost.get(name)]
    return bar_chart("time when made, by what it was for", [(title, value, seconds(value)) for title, value in known])


def _made(report: Report) -> tuple[list[Span], list[str]]:
    purposes = {step.purpose for step in report.timeline}
    shown = {name: title for name, title in PURPOSES.items() if name in purposes}
    spans = [
        Span(step.begin, step.seconds, [*shown].index(step.purpose), f"{step.step}: {seconds(step.seconds)}")
        for step in report.timeline
        if step.purpose in shown
    ]
    return spans, [*shown.values()]


def _accuracies(report: Report) -> str:
    rows = [(row.name == report.method and not row.control, [row.title, *row.texts]) for row in cells.rows_of(report)]
    return _table(["method", *cells.columns_of(report).values()], rows)


def _emitted(report: Report) -> str:
    titles, rows = cells.verified(report.emitted)
    return _table(titles, ((False, row) for row in rows))


def _table(titles: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]]) -> str:
    head = "".join(f"<th>{escaped(title)}</th>" for title in titles)
    lines = [
        f"<tr{' class=main' if main else ''}>{''.join(f'<td>{escaped(cell)}</td>' for cell in texts)}</tr>"
        for main, texts in rows
    ]
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>"
