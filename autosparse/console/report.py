"""Reports and lists on a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.text import Text

from autosparse.console.chart import show_chart, show_frontier, show_profiles
from autosparse.console.format import FIXED, plain, results, show_table
from autosparse.console.models import show_verified
from autosparse.planning.model import PURPOSES
from autosparse.report import cells
from autosparse.report.folder import Reached
from autosparse.report.provenance import recipe_table
from autosparse.report.schema import Checked, MaskCost, Report, Sanity
from autosparse.report.significance import signed
from autosparse.report.speeds import AGAIN
from autosparse.text import number, plural, seconds, shell_word, sparkline, trainings


def show_report(
    report: Report,
    sections: Collection[str] = (),
    *,
    sort: str = "",
    wide: bool = False,
    methods: Collection[str] = (),
) -> None:
    """Show a report on one screen: verdicts, accuracies, exported models, warnings.

    `sections` limits the output to these, and `methods` its rows; budgets and the best stay those of all methods.
    `sort` orders methods by `accuracy` or `name`; `wide` shows every section, for every budget instead of the strictest
    alone.
    """
    console = results()
    weights = f", {report.results[0].total:,} prunable weights" if report.results else ""
    columns = cells.columns_of(report)
    budgets = columns if wide else dict(list(columns.items())[-1:])
    view = _View(console, report, cells.only(report, methods), budgets, sort)
    console.print()
    console.print(plain(f"{report.spec}: {report.model} on {report.dataset}{weights}", "bold"))
    console.print()
    for name in sections or (SECTIONS if wide else _DEFAULT):
        _SHOWN[name](view)
    if not sections and not wide and report.run:
        command = f"autosparse report {shell_word(report.run)} --wide"
        console.print(plain(f"`{command}` shows paths, layers, IRP, scorer, costs", "dim"))


@dataclass(frozen=True)
class _View:
    """Input of a section: `report` has the shown methods; `budgets` are labels and titles of the shown budgets."""

    console: Console
    whole: Report
    report: Report
    budgets: Mapping[str, str]
    sort: str


def _models(console: Console, report: Report) -> None:
    if report.emitted:
        show_verified(report.emitted, f"{report.run}/models", AGAIN)
        console.print()


def _warnings(console: Console, report: Report, *, selected: bool) -> None:
    if report.warnings and selected:
        console.print(plain("warnings of the whole run"))
    for warning in report.warnings:
        console.print(plain(f"warning: {warning}", "yellow"))
    if report.warnings:
        console.print()


def _run(console: Console, report: Report) -> None:
    made = report.steps["run"] + report.steps["resume"]
    if not made:
        console.print(plain("nothing to run: every artifact was in the cache", "bold green"))
    ran = f"{plural(made, 'step')} run, {report.steps['reuse']} reused, in {seconds(report.seconds)}"
    console.print(plain(f"{ran}; run folder {report.run}", "dim"))


def show_made(made: Mapping[str, Any]) -> None:
    """Show the steps that a partial run made and reused."""
    console = results()
    for sign, kind, style in (("+", "made", "yellow"), ("=", "reused", "green")):
        for name in made[kind]:
            console.print(plain(f"{sign} {kind:<6} {name}", style), soft_wrap=True)
    sentence = f"{len(made['made'])} made, {made['steps']['reuse']} reused, in {seconds(made['seconds'])}"
    left = len(made["missing"])
    console.print(plain(f"{sentence}; {plural(left, 'step')} of {made['spec']} left to run", "bold"))


def show_runs(runs: Sequence[Reached]) -> None:
    """Show the runs of a directory, the latest last."""
    rows: list[list[object]] = []
    for one in runs:
        name, report = plain(one.run.folder), one.run.report
        if one.run.tags:
            name = Text.assemble(name, "\n", plain(f"({', '.join(one.run.tags)})", "dim"))
        if report is None:
            rows.append([name, "", "", "", f"{one.run.problem}: {one.run.remedy}"])
            continue
        reached = ", ".join(_reached(one, label) for label in dict.fromkeys([*one.accuracy, *one.statuses]))
        rows.append([name, report.model, report.dataset, report.method, reached])
    console = results()
    show_table(("run", "model", "dataset", "method", "accuracy by budget"), rows, optional=(2, 1), console=console)
    if any(one.best for one in runs):
        console.print(plain("test accuracy in %; * the best of these runs, of one network on one dataset", "dim"))


def _reached(one: Reached, label: str) -> str:
    value, status = one.accuracy.get(label), one.statuses.get(label)
    if value is None:
        return f"{label}:{FIXED}{status}"
    return f"{label}:{FIXED}{value:.1f}{'*' * (label in one.best)}{f' ({status})' if status else ''}"


def _accuracies(console: Console, report: Report, sort: str, shown: Report) -> None:
    columns = cells.columns_of(report)
    seeds = len({result.seed for result in report.results} | {one.seed for one in report.missing})
    spread = "mean ± sd of " if seeds > 1 else ""
    others = f" except {', '.join(report.oracles)}" if report.oracles else ""
    caption = f"test accuracy in %, last epoch, {spread}{plural(seeds, 'seed')}; * best{others}"
    rows, names = cells.rows_of(report), {(row.name, row.control) for row in cells.rows_of(shown)}
    best = [cells.best_of(rows, column) for column in range(len(columns))]
    rows = [row for row in rows if (row.name, row.control) in names]
    methods = [row for row in rows if not row.control]
    lines: list[list[Text]] = []
    for row in _sorted(methods, report, sort):
        stars = [
            "*" if not row.apart and values and fmean(values) == top else " "
            for values, top in zip(row.cells, best, strict=True)
        ]
        texts = [text + star for text, star in zip(row.texts, stars, strict=True)]
        lines.append([plain(row.name, "bold" if row.name == report.method else ""), *map(plain, texts)])
    controls = [
        [plain(cell, "dim") for cell in (row.name, *(f"{text} " for text in row.texts))] for row in rows[len(methods) :]
    ]
    below = "; last rows: controls" if controls else ""
    console.print(plain(f"{caption}{below}"))
    last = len(columns)  # the ends of the range stay longest
    optional = [*range(2, last), *range(1, min(last, 2))] if last > 1 else []
    show_table(
        ("method", *columns.values()), [*lines, *controls], last,
        optional=optional, sections=(len(lines) - 1,), console=console,
    )  # fmt: skip
    if counted := cells.counted_interval(report):
        console.print(plain(counted, "dim"))
    if limits := cells.limits_in_words(report):
        console.print(plain(limits, "dim"))
    if counted or limits:
        console.print()


def _recipes(console: Console, report: Report) -> None:
    titles, rows = recipe_table(report)
    if not rows:
        return
    chosen = "validation accuracy in % at the first seed; * chosen by the method; then test accuracy"
    console.print(plain(f"{chosen} at the best common value and at the chosen one"))
    show_table(titles, rows, numbers=len(titles) - 1, console=console)


def _verdicts(console: Console, report: Report) -> None:
    if not report.verdicts:
        return
    columns = cells.columns_of(report)
    chosen = any(verdict.baseline for verdict in report.verdicts)
    how = "; the best baseline is chosen on validation images" if chosen else ""
    console.print(plain(f"{report.method}{how}", "bold"))
    for verdict in report.verdicts:
        console.print(plain(f"{columns.get(verdict.budget, verdict.budget)}: {verdict.words}"))
    console.print()


def _sorted(rows: Sequence[cells.Row], report: Report, sort: str) -> list[cells.Row]:
    # The dense network and the spec's method come first, unless the user sorts them too.
    if sort == "name":
        return sorted(rows, key=lambda row: row.name)
    if sort == "accuracy":
        order = cells.ranked(report)
        return sorted(rows, key=lambda row: order.index(row.name))
    return sorted(rows, key=lambda row: (row.name != "dense", row.name != report.method))


def _layers(view: _View) -> None:
    for label, title in view.budgets.items():
        profiles = [profile for profile in view.report.profiles if profile.budget == label]
        show_profiles(view.console, profiles, cells.method_first(view.report, label), title)
    if view.report.unprunable:
        counts = Counter(view.report.unprunable.values()).most_common()
        reasons = ", ".join(f"{reason.removeprefix('a ')} ({count})" for reason, count in counts)
        view.console.print(plain(f"parameters that are not prunable: {reasons}", "dim"))


def _paths(console: Console, report: Report, label: str, title: str) -> None:
    """Show connectivity of a budget's masks: weights and channels on a path, paths, multiply-adds."""
    pruned = [result for result in report.results if result.effective_nodes is not None]
    shown = [result for result in pruned if result.budget == label and result.seed == pruned[0].seed]
    if not shown:
        return
    seed = shown[0].seed
    console.print(plain(f"on a path from input to output at {title}, seed {seed}; mask cost in dense trainings"))
    costs = {cost.method: cost for cost in report.mask_costs if cost.budget == label}
    rows = [
        (
            result.method,
            f"{result.effective_sparsity or 0:.4f}",
            f"{100 * (result.effective_nodes or 0):.1f} %",
            "none" if result.paths is None else f"{result.paths:.1f}",
            number(result.effective_macs or 0),
            *_cost(costs.get(result.method)),
        )
        for result in shown
    ]
    titles = ("method", "sparsity", "channels", "log #paths", "MACs", "mask cost", "mask time")
    show_table(titles, rows, numbers=6, optional=(3, 2, 4, 6), console=console)


def _cost(cost: MaskCost | None) -> tuple[str, str]:
    if cost is None:
        return "", ""
    return "unknown" if cost.trainings is None else trainings(cost.trainings), seconds(cost.seconds)


def _tuned(scorer: Mapping[str, Any]) -> str:
    settings = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scorer["tuned"].items()
    )
    stopped = sum(scorer["stopped"])
    early = f", {stopped} stopped early," if stopped else ""
    survivors = "the weights that survive a round" if scorer["progressive"] else "IRP's survivors"
    recall = f"recall of {survivors} {scorer['precision']:.0%}, {scorer['beyond_quotas']:.0%} beyond layer quotas"
    recall += f"; layer quotas agree with IRP's by {scorer['quotas']:.0%}"
    if scorer["proxy"] is not None:
        recall += f"; its proxy reaches {scorer['proxy']:.1f} % on validation images"
    tried = [value for value in scorer["trials"] if value is not None and math.isfinite(value)]
    best = f"best of {len(scorer['trials'])} trials{early} {sparkline(tried)} ({settings})"
    return (
        f"scorer {scorer['name']}: rank correlation {scorer['rank_correlation']:.2f} on held-out "
        f"{scorer['split']}, {scorer['rank_correlation_within_layers']:.2f} within layers; "
        f"{recall}; {best}{_importances(scorer)}"
    )


def _importances(scorer: Mapping[str, Any]) -> str:
    shares = sorted(scorer["importances"].items(), key=lambda item: -item[1])
    importances = ", ".join(f"{name} {share:.0%}" for name, share in shares)
    return f"; importance: {importances}" if importances else ""


def _irp(console: Console, report: Report) -> None:
    for name, rounds in cells.rounds_by_source(report).items():
        network = name.rpartition("/")[0]  # shown only for several networks
        values = [item["validation_accuracy"] for item in rounds]
        left = 100 * rounds[-1]["kept"] / rounds[-1]["total"]
        source = f"{f'{network}, ' if network else ''}seed {rounds[0]['seed']}"
        curve = f"{values[0]:.1f} {sparkline(values)} {values[-1]:.1f} %"
        console.print(plain(f"IRP, {source}: {len(rounds)} rounds to {left:.2g} % of the weights, validation {curve}"))


def _scorer(console: Console, report: Report) -> None:
    if report.scorer and report.scorer["rank_correlation"] is not None:
        console.print(plain(_tuned(report.scorer)))
    if report.scorer.get("pretrained"):
        name = f"scorer {report.scorer['name']}: {report.scorer['taken_from']}"
        console.print(plain(f"{name}, pretrained; its training cost is not included"))
    if report.scorer.get("path"):
        path = f"{report.run}/scorer"
        console.print(plain(f"scorer saved in {path}: `scorer: {{pretrained: {path}}}` reuses it", "dim"))


def _costs(console: Console, report: Report) -> None:
    if report.cost:
        known = ((title, report.cost.get(name)) for name, title in PURPOSES.items())
        parts = ", ".join(f"{title} {seconds(value)}" for title, value in known if value is not None)
        console.print(plain(f"compute cost, including cached steps: {parts}"))


def _sanity(console: Console, items: Sequence[Sanity]) -> None:
    """Show the test accuracy of every check next to the method's, and its interpretation."""
    if not items:
        return
    seeds = ", ".join(map(str, items[0].seeds))
    where = f"at {_budget_of(items[0])}, seed{'s' * (len(items[0].seeds) > 1)} {seeds}"
    console.print(plain(f"sanity checks {where}: test accuracy in % and its difference"))
    checks = dict.fromkeys(check.check for item in items for check in item.checks)
    rows = [(name, *(_check(name, item.checks) for item in items)) for name in checks]
    first_row = ("unchanged", *(f"{item.test_accuracy:.2f}        " for item in items))
    show_table(("", *map(_subject, items)), [first_row, *rows], numbers=len(items))
    for item in items:
        sentence = f"noise {item.noise:.1f}: {item.noise_from}; a difference above {item.noticeable:.1f} counts"
        console.print(plain(f"{_subject(item)}, {sentence}", "dim"))
        if item.chosen_from:
            others = ", ".join(f"{name} {value:.1f}" for name, value in item.chosen_from.items())
            tied = sum(value == item.validation_accuracy for value in item.chosen_from.values()) > 1
            first = ", the first of a tie by name" if tied else ""
            console.print(plain(f"{item.method} is the best on validation images{first}: {others}", "dim"))
        reasons: dict[str, list[str]] = {}
        for check in item.checks:
            if check.verdict:
                kept = f"; {100 * check.overlap:.0f} % of the same weights" if check.overlap is not None else ""
                console.print(plain(f"{item.method}: {check.verdict}{kept}"))
            if check.left_out:
                reasons.setdefault(check.left_out, []).append(check.check)
        for reason, names in reasons.items():
            console.print(plain(f"{item.method}, skipped: {', '.join(names)}, since {reason}", "dim"))
    console.print()


def _budget_of(item: Sanity) -> str:
    return f"sparsity {item.sparsity:g}" if item.budget == str(item.sparsity) else item.budget


def _subject(item: Sanity) -> str:
    return item.method if item.subject == item.method else f"{item.subject}, {item.method}"


def _check(name: str, checks: Sequence[Checked]) -> str:
    check = next((check for check in checks if check.check == name), None)
    if check is None or check.test_accuracy is None or check.difference is None:
        return "-        "
    return f"{check.test_accuracy:.2f} {signed(check.difference, 2):>7}"


def _each(show: Callable[[_View, str, str], None]) -> Callable[[_View], None]:
    def shown(view: _View) -> None:
        for label, title in view.budgets.items():
            show(view, label, title)

    return shown


_SHOWN: Mapping[str, Callable[[_View], None]] = {
    "verdict": lambda view: _verdicts(view.console, view.report),
    "accuracy": lambda view: _accuracies(view.console, view.whole, view.sort, view.report),
    "recipes": lambda view: _recipes(view.console, view.report),
    "chart": lambda view: show_chart(view.console, view.report),
    "models": lambda view: _models(view.console, view.report),
    "sanity": lambda view: _sanity(view.console, view.report.sanity),
    "warnings": lambda view: _warnings(view.console, view.report, selected=view.report is not view.whole),
    "paths": _each(lambda view, label, title: _paths(view.console, view.report, label, title)),
    "layers": _layers,
    "irp": lambda view: _irp(view.console, view.report),
    "scorer": lambda view: _scorer(view.console, view.report),
    "frontier": _each(
        lambda view, label, title: show_frontier(
            view.console, view.whole, label, title, {result.method for result in view.report.results}
        )
    ),
    "cost": lambda view: _costs(view.console, view.report),
    "run": lambda view: _run(view.console, view.report),
}
SECTIONS = tuple(_SHOWN)
"""sections of a report, in order"""
_DEFAULT = ("verdict", "accuracy", "recipes", "models", "sanity", "warnings", "run")
