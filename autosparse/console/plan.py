"""Plans on a terminal: reused and new steps with reasons, cost, budgets, and one explained step."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autosparse.console.format import plain, results, show_table
from autosparse.core.training.torch_compile import DENSE
from autosparse.cost.fitted import Fitted, PayBack, Shared, paybacks
from autosparse.cost.price import NO_PRICE
from autosparse.cost.rates import BUSY
from autosparse.planning.budgets import Between, Translation
from autosparse.planning.model import PURPOSES, Plan
from autosparse.planning.status import SHARED, Status, chain, count, to_run
from autosparse.spec import binary_size
from autosparse.text import listed, number, plural, seconds, seconds_range, size, trainings

STYLES = {"run": ("+", "yellow"), "resume": (">", "cyan"), "reuse": ("=", "green")}
_REASONS = 3


def show_plan(
    fitted: Fitted, budgets: Sequence[Translation] | None, *, every_step: bool, sharing: Shared | None = None
) -> None:
    """Show a plan by purpose, one line an operation or one a step; then its budgets and totals."""
    console = results()
    plan, statuses = fitted.plan, fitted.statuses
    shares = ", ".join(f"{value:g}" for value in plan.spec.budget if isinstance(value, float))
    amounts = [str(value) for value in plan.spec.budget if not isinstance(value, float)]
    budget = ", ".join([f"sparsity {shares}"] * bool(shares) + amounts)
    about = f"plan {plan.name}: {plan.spec.model.short_name} on {plan.spec.dataset.short_name}, {budget}"
    console.print(plain(about, "bold"))
    for name, source in plan.sources.items():
        if source.reading:
            number = len(source.class_names)
            classes = f"{plural(number, 'class', 'classes')}: {listed(source.class_names)}"
            console.print(plain(f"{name}: {source.reading}; {classes}"))
    table = Table("", "", box=None, show_header=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    costs = any(status.status != "reuse" and name in fitted.price.steps for name, status in statuses.items())
    for title in ("time", "peak", "disk"):
        table.add_column(title if costs else "", justify="right", no_wrap=True)
    for purpose, title in PURPOSES.items():
        operations: dict[str, list[str]] = {}
        for step in plan.steps.values():
            if step.purpose == purpose:
                operations.setdefault(step.name if every_step else step.operation, []).append(step.name)
        if operations:
            table.add_row(plain(title, "bold"))
        for label, names in operations.items():
            _row(table, fitted, label, names)
    console.print(table)
    _budgets(console, budgets)
    if every_step:
        for name, status in statuses.items():
            if status.status != "reuse" and not status.because:
                console.print(plain(f"{name}: {status.reason}"))
    else:
        _reasons(console, plan, statuses)
    for change in fitted.adjustments:
        console.print(plain(f"to fit {change.limit}: {change}", "cyan"))
    for item in paybacks(fitted):
        _compiling(console, item)
    for note in fitted.notes:
        console.print(plain(note, "yellow"))
    _elsewhere(console, fitted)
    if shared := sum(status.reason == SHARED for status in statuses.values()):
        sentence = f"{shared} of the reused steps are only in the shared store and fetched when needed"
        console.print(plain(sentence, "dim"))
    _footer(console, fitted, sharing)


def _row(table: Table, fitted: Fitted, label: str, names: Sequence[str]) -> None:
    kinds = Counter(fitted.statuses[name].status for name in names)
    worst = next(kind for kind in ("resume", "run", "reuse") if kinds[kind])
    symbol, style = STYLES[worst]
    tally = ", ".join(f"{kind} {kinds[kind]}" for kind in ("resume", "run", "reuse") if kinds[kind])
    left = [name for name in names if fitted.statuses[name].status != "reuse" and name in fitted.price.steps]
    costs = ("", "", "")
    if left:
        estimate = fitted.price.of(left)
        costs = (seconds(estimate.seconds), binary_size(estimate.peak_bytes), size(estimate.disk_bytes))
    elif worst != "reuse":
        costs = ("?", "?", "?")
    table.add_row(plain(f"  {symbol} {label}", style), plain(tally), *(plain(cost) for cost in costs))


def _reasons(console: Console, plan: Plan, statuses: Mapping[str, Status]) -> None:
    # Sources of the reasons, and the number of steps that each makes run.
    reasons = Counter(statuses[chain(plan, statuses, name)[-1]].reason for name in to_run(statuses))
    for reason, times in reasons.most_common(_REASONS):
        console.print(plain(f"{plural(times, 'step')} to run: {reason}"))
    if len(reasons) > _REASONS:
        console.print(
            plain(f"and {plural(len(reasons) - _REASONS, 'more reason')}; `--steps` and `--explain STEP` show them")
        )


def _compiling(console: Console, item: PayBack) -> None:
    number = f"each of {item.trainings} trainings" if item.trainings > 1 else "one training"
    sentence = f"compiling {item.model} takes {seconds(item.seconds)} of {number}"
    sentence += f", the rest is {item.times:.2f} times as fast"
    balance = f"{seconds(item.saved)} saved" if item.saved > 0 else f"{seconds(-item.saved)} lost; {DENSE}"
    console.print(plain(f"{sentence}: {balance}", "cyan" if item.saved > 0 else "yellow"))


def _elsewhere(console: Console, fitted: Fitted) -> None:
    # Artifacts of another environment are reused, with a note in the plan; `threads: auto` takes any number of threads.
    changes = [change for status in fitted.statuses.values() for change in status.environment]
    known = {"threads"} if fitted.placement.adaptive else set()
    made = Counter(f"{change.path} {change.before}" for change in changes if change.path not in known)
    if made:
        environments = ", ".join(f"{what} ({number})" for what, number in made.most_common(_REASONS))
        console.print(plain(f"reused steps of other environments: {environments}", "dim"))


def _footer(console: Console, fitted: Fitted, sharing: Shared | None) -> None:
    plan, price = fitted.plan, fitted.price
    total = count(fitted.statuses)
    if total["reuse"] == len(fitted.statuses):
        console.print(plain(f"nothing to run: all {total['reuse']} steps are in the cache", "bold green"))
    else:
        left = fitted.left
        parts = [f"{len(fitted.statuses) - total['reuse']} to run, {total['reuse']} reused"]
        threads = plan.spec.target.threads
        one_by_one = "as many threads as fit" if threads == "auto" else plural(threads, "thread")
        together = f"{fitted.workers} steps at once, {one_by_one} each"
        where = f"on {plan.spec.target.device} ({together if fitted.workers > 1 else one_by_one})"
        busy = price.slowdown >= BUSY
        lowest, highest = fitted.present_range if busy else fitted.idle_range
        now = f"about {seconds_range(lowest, highest)}{' here, now,' if busy else ''}"
        parts.append(f"{now} {where}" if price.steps else where)
        if price.steps:
            limit = "" if math.isinf(fitted.memory) else f" of {binary_size(fitted.memory)}"
            check = f" ({binary_size(fitted.checking)} to check emitted models)" if fitted.checking else ""
            parts.append(f"peak {binary_size(left.peak_bytes)}{limit}{check}")
            parts.append(f"{size(left.disk_bytes)} new")
        console.print(plain(", ".join(parts), "bold"))
        if busy:
            sentence = f"this machine is busy, {price.slowdown:.1f} times as slow as when idle"
            console.print(plain(f"{sentence}: about {seconds_range(*fitted.idle_range)} on an idle machine", "yellow"))
        unknown = sum(name not in price.steps for name in fitted.to_run)
        missing = f"a device {plan.spec.target.device}" if price is NO_PRICE else "their data"
        if unknown:
            console.print(
                plain(f"the cost of {plural(unknown, 'step')} is unknown until {missing} is available", "yellow")
            )
        elif (cost := fitted.trainings) is not None:
            counted = fitted.counted
            work = f"{number(counted.steps)} training steps, {number(counted.macs)} MACs"
            times = f"{cost:.1f}" if cost >= 1 else trainings(cost)
            console.print(plain(f"cost: {times} dense trainings ({work})", "dim"))
    if sharing and sharing.specs > 1:
        each = seconds(sharing.each)
        sentence = f"IRP of {seconds(sharing.seconds)} shared by {sharing.specs} specs: {each} for each"
        console.print(plain(sentence, "dim"))


def _budgets(console: Console, translations: Sequence[Translation] | None) -> None:
    # Each budget in the other currencies, as ranges where these depend on the masks.
    if translations is None:
        console.print(plain("the budget in other currencies is unknown until the images are present", "dim"))
        return
    if not translations:
        console.print(plain("latency budgets have no other currencies before the masks exist", "dim"))
        return
    columns = ("budget", "sparsity", "weights", "parameters", "MACs", "compact size")
    rows: list[list[Text]] = []
    for item in translations:
        values = (item.sparsity, item.kept, item.parameters, item.macs, item.bytes)
        amounts = [*zip(values, (_share, number, number, number, size), strict=True)]
        row = [_shown(value, as_text) for value, as_text in amounts]
        row[3] = f"≤ {row[3]}" if item.budget.endswith(" macs") else row[3]
        rows.append([*map(plain, (item.budget, *row))])
        alike = [as_text(value.uniform) if isinstance(value, Between) else "" for value, as_text in amounts]
        rows.append([plain(text, "dim") for text in ("  uniform", *alike)])
    show_table(columns, rows, 5, optional=(3, 5, 2), console=console, box=None, header_style="")
    console.print(plain("ranges depend on which layers keep weights; uniform: the same share in each", "dim"))


def _shown(value: float | Between, as_text: Callable[[float], str]) -> str:
    if not isinstance(value, Between):
        return as_text(value)
    low, high = as_text(value.lowest), as_text(value.highest)
    if low.partition(" ")[2] == high.partition(" ")[2]:  # print a common unit once
        low = low.partition(" ")[0]
    return high if value.lowest == value.highest else f"{low}–{high}"


def _share(sparsity: float) -> str:
    # Two significant digits of the kept share: 0.99995 is not 1.
    digits = 2 - math.floor(math.log10(1 - sparsity)) if sparsity else 1
    return f"{round(sparsity, digits):.15g}"


_SIDES = ("before", "after")


def show_chain(links: Sequence[Mapping[str, Any]]) -> None:
    """Show a step with its key, reason and inputs, then the chain of steps behind its reason."""
    console = results()
    _whole(console, links[0])
    for depth, link in enumerate(links[1:], start=1):
        _line(console, f"{'  ' * depth}after {link['name']}: {link['status']}, {link['reason']}", link["status"])
    if len(links) > 1:
        console.print()
        _whole(console, links[-1])


def _whole(console: Console, link: Mapping[str, Any]) -> None:
    _line(console, f"{link['name']}: {link['status']}, {link['reason']}", link["status"])
    _line(console, f"  key {link['key']} ({link['operation']}, version {link['version']})")
    nearest = link["nearest"]
    if nearest and nearest["key"] != link["key"]:
        spec = nearest["spec"] and f"spec {nearest['spec']}"
        made = ", ".join(filter(None, (nearest["step"], spec, nearest["created"])))
        _line(console, f"  nearest in the cache: {nearest['key'][:12]} ({made})")
    for title, changes in (("changed", link["changes"]), ("made elsewhere", link["environment"])):
        for change in changes:
            before, after = (json.dumps(change[side]) if side in change else "(not set)" for side in _SIDES)
            _line(console, f"  {title}: {change['path']} {before} → {after}")
    for role, source in link["inputs"].items():
        _line(console, f"  input {role}: {source['step']}, {source['status']}, {source['reason']}", source["status"])
    if link["outputs"]:
        _line(console, f"  needed by {listed(link['outputs'])}")


def _line(console: Console, text: str, status: str = "") -> None:
    style = STYLES[status][1] if status else ""
    console.print(plain(text, style), soft_wrap=True)
