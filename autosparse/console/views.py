"""Plans, reports and lists as a person reads them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from autosparse.console.screen import plain, results, seconds, size, sparkline
from autosparse.plan import PURPOSES, Plan, Status, count
from autosparse.report import Report, Result, Run


def show_plan(plan: Plan, found: Mapping[str, Status], *, every_step: bool) -> None:
    """A plan, grouped by purpose; one line an operation, or one a step."""
    console = results()
    budget = ", ".join(f"{value:g}" for value in plan.spec.budget)
    about = f"plan {plan.name}: {plan.spec.model.short_name} on {plan.spec.dataset.short_name}, sparsity {budget}"
    console.print(plain(about, "bold"))
    groups: dict[str, dict[str, list[str]]] = {}
    for step in plan.steps.values():
        groups.setdefault(step.purpose, {}).setdefault(step.operation, []).append(step.name)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for purpose, title in PURPOSES.items():
        if purpose not in groups:
            continue
        table.add_row(plain(title, "bold"))
        for operation, names in groups[purpose].items():
            for label, members in [(n, [n]) for n in names] if every_step else [(operation, names)]:
                run = [name for name in members if found[name].status == "run"]
                table.add_row(
                    plain(f"  {'+' if run else '='} {label}", "yellow" if run else "green"),
                    plain(_tally(len(run), len(members))),
                    plain("" if every_step else _sample(members)),
                )
    console.print(table)
    total = count(found)
    if not total["run"]:
        console.print(plain(f"nothing to run: all {total['reuse']} steps are in the cache", "bold green"))
    else:
        where = f"{plan.spec.target.device} ({plan.spec.target.threads} threads)"
        console.print(plain(f"{total['run']} to run, {total['reuse']} reused, on {where}", "bold"))


def show_report(report: Report) -> None:
    """One screen: how good, can it be believed, what was learned, what it cost, what came out."""
    console = results()
    total = report.results[0].total if report.results else 0
    console.print()
    console.print(plain(f"{report.spec}: {report.model} on {report.dataset}, {total:,} prunable weights", "bold"))
    _accuracies(console, report)
    _lessons(console, report)
    _emitted(console, report)
    if report.unprunable:
        reasons = Counter(report.unprunable.values()).most_common()
        told = ", ".join(f"{reason} {count}" for reason, count in reasons)
        console.print(plain(f"parameters that are not prunable: {told}", "dim"))
    for warning in report.warnings:
        console.print(plain(f"warning: {warning}", "yellow"))
    if not report.steps["run"]:
        console.print(plain("nothing to run: every artifact was in the cache", "bold green"))
    ran = f"{report.steps['run']} steps run, {report.steps['reuse']} reused, in {seconds(report.seconds)}"
    console.print(plain(f"{ran}; run folder {report.run}", "dim"))


def show_made(made: Mapping[str, Any]) -> None:
    """What a run of some steps made and reused."""
    console = results()
    for sign, kind, style in (("+", "made", "yellow"), ("=", "reused", "green")):
        for name in made[kind]:
            console.print(plain(f"{sign} {kind:<6} {name}", style), soft_wrap=True)
    told = f"{made['steps']['run']} made, {made['steps']['reuse']} reused, in {seconds(made['seconds'])}"
    left = len(made["missing"])
    console.print(plain(f"{told}; {left} step{'s' * (left != 1)} of {made['spec']} left to run", "bold"))


def show_runs(runs: Sequence[Run]) -> None:
    """The runs of a directory, the latest last."""
    table = _table("run", "model", "dataset", "method", "best accuracy by sparsity", numbers=0)
    for run in runs:
        if run.report is None:
            table.add_row(plain(run.folder), "", "", "", plain(f"{run.problem}: the same command mends that"))
            continue
        own = _cells([r for r in run.report.results if r.method == run.report.method])
        best = ", ".join(f"{sparsity:g}: {_mean(cells):.1f}" for (_, sparsity), cells in own.items())
        cells = (run.folder, run.report.model, run.report.dataset, run.report.method, best)
        table.add_row(*(plain(cell) for cell in cells))
    results().print(table)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Names and what is said of them."""
    table = _table(*columns, numbers=0)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    results().print(table)


def show_text(text: str) -> None:
    """A result that is one text: printed as it is, never wrapped."""
    results().print(plain(text) if "\n" not in text else text, soft_wrap=True)


def _tally(run: int, total: int) -> str:
    if not run:
        return f"reuse {total}"
    return f"run {run}" + (f", reuse {total - run}" if run < total else "")


def _sample(names: Sequence[str]) -> str:
    if len(names) < 3:
        return ", ".join(names)
    return f"{names[0]} ... {names[-1]}"


def _accuracies(console: Console, report: Report) -> None:
    sparsities = sorted({result.sparsity for result in report.results if result.method != "dense"})
    seeds = len({result.seed for result in report.results})
    spread = "mean ± sd of " if seeds > 1 else ""
    console.print(plain(f"test accuracy in %, last epoch, {spread}{seeds} seed{'s' * (seeds > 1)}; * is the best"))
    table = _table("method", *(f"sparsity {sparsity:g}" for sparsity in sparsities), numbers=len(sparsities))
    cells = _cells(report.results)
    best = {s: max(_mean(v) for (m, t), v in cells.items() if t == s and m != "dense") for s in sparsities}
    order = dict.fromkeys(result.method for result in report.results)
    for method in sorted(order, key=lambda name: (name != "dense", name != report.method)):
        if method == "dense":
            row = [_shown(cells[method, 0.0])] * len(sparsities)
        else:
            row = [_shown(cells[method, s]) + ("*" if _mean(cells[method, s]) == best[s] else " ") for s in sparsities]
        table.add_row(plain(method, "bold" if method == report.method else ""), *(plain(cell) for cell in row))
    controls = _cells(report.controls)
    for index, method in enumerate(dict.fromkeys(result.method for result in report.controls)):
        row = [_shown(controls[method, s]) + " " for s in sparsities]
        if index == 0:
            table.add_section()
        table.add_row(plain(f"control {method}", "dim"), *(plain(cell, "dim") for cell in row))
    console.print(table)


def _lessons(console: Console, report: Report) -> None:
    for seed in dict.fromkeys(item["seed"] for item in report.irp):
        rounds = [item for item in report.irp if item["seed"] == seed]
        values = [item["validation_accuracy"] for item in rounds]
        left = 100 * rounds[-1]["kept"] / rounds[-1]["total"]
        console.print(
            plain(
                f"IRP, seed {seed}: {len(rounds)} rounds to {left:.2g} % of the weights, "
                f"validation {values[0]:.1f} {sparkline(values)} {values[-1]:.1f} %"
            )
        )
    if report.scorer and report.scorer["rank_correlation"] is not None:
        scorer = report.scorer
        settings = ", ".join(f"{name} {_short(value)}" for name, value in scorer["tuned"].items())
        console.print(
            plain(
                f"scorer {scorer['name']}: rank correlation {scorer['rank_correlation']:.2f} on held-out layers, "
                f"{scorer['rank_correlation_within_layers']:.2f} inside one; "
                f"best of {len(scorer['trials'])} trials {sparkline(scorer['trials'])} ({settings})"
            )
        )
    if report.scorer.get("pretrained"):
        console.print(plain(f"scorer {report.scorer['name']}: pretrained; what it cost is not counted here"))
    if report.scorer.get("path"):
        console.print(plain(f"scorer kept in {report.run}/scorer: `scorer: {{pretrained: ...}}` takes it", "dim"))
    if report.cost:
        known = ((title, report.cost.get(name)) for name, title in PURPOSES.items())
        parts = ", ".join(f"{title} {seconds(value)}" for title, value in known if value is not None)
        console.print(plain(f"cost when made: {parts}"))


def _emitted(console: Console, report: Report) -> None:
    if not report.emitted:
        return
    table = _table(f"emitted in {report.run}/models", "size", numbers=1)
    for model in report.emitted:
        table.add_row(plain("/".join(Path(model.path).parts[-2:])), plain(size(model.bytes)))
    console.print(table)
    console.print(plain("zeros in dense tensors: neither smaller nor faster than the dense model", "dim"))


def _cells(found: Sequence[Result]) -> dict[tuple[str, float], list[float]]:
    cells: dict[tuple[str, float], list[float]] = {}
    for result in found:
        cells.setdefault((result.method, result.sparsity), []).append(result.test_accuracy)
    return cells


def _shown(values: Sequence[float]) -> str:
    return f"{_mean(values):.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(*columns: str, numbers: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="right" if 0 < index <= numbers else "left", overflow="fold")
    return table
