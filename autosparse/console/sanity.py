"""The sanity checks of a report: a table, a verdict for each, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from autosparse.console.format import plain
from autosparse.report import Checked, Sanity, signed


def show_sanity(console: Console, items: Sequence[Sanity]) -> None:
    """Test accuracy of every check beside the method's own, and what it says."""
    if not items:
        return
    seeds = ", ".join(map(str, items[0].seeds))
    where = f"at {_titled(items[0])}, seed{'s' * (len(items[0].seeds) > 1)} {seeds}"
    console.print(plain(f"sanity checks {where}: test accuracy in % and its difference"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for item in items:
        table.add_column(plain(_name(item)), justify="right", overflow="fold")
    table.add_row(plain("as it is"), *(plain(f"{item.test_accuracy:.2f}        ") for item in items))
    for name in dict.fromkeys(check.check for item in items for check in item.checks):
        table.add_row(plain(name), *(plain(_cell(name, item.checks)) for item in items))
    console.print(table)
    for item in items:
        sentence = f"noise {item.noise:.1f}: {item.noise_from}; a difference above {item.noticeable:.1f} counts"
        console.print(plain(f"{_name(item)}, {sentence}", "dim"))
        if item.chosen_from:
            others = ", ".join(f"{name} {value:.1f}" for name, value in item.chosen_from.items())
            console.print(plain(f"{item.method} is the best on validation images: {others}", "dim"))
        for check in item.checks:
            if check.verdict:
                kept = f"; {100 * check.overlap:.0f} % of the same weights" if check.overlap is not None else ""
                console.print(plain(f"{item.method}: {check.verdict}{kept}"))
        reasons: dict[str, list[str]] = {}
        for check in item.checks:
            if check.left_out:
                reasons.setdefault(check.left_out, []).append(check.check)
        for reason, names in reasons.items():
            console.print(plain(f"{item.method}, left out: {', '.join(names)}, since {reason}", "dim"))


def _titled(item: Sanity) -> str:
    return f"sparsity {item.sparsity:g}" if item.budget == str(item.sparsity) else item.budget


def _name(item: Sanity) -> str:
    return item.method if item.subject == item.method else f"{item.subject}, {item.method}"


def _cell(name: str, checks: Sequence[Checked]) -> str:
    check = next((check for check in checks if check.check == name), None)
    if check is None or check.test_accuracy is None or check.difference is None:
        return "-        "
    return f"{check.test_accuracy:.2f} {signed(check.difference, 2):>7}"
