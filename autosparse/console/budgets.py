"""Budgets in every currency, as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.table import Table

from autosparse.console.screen import number, plain, results, size
from autosparse.plan import Between, Translation


def show_budgets(translations: Sequence[Translation] | None) -> None:
    """What each budget is in the other currencies; ranges where only the masks will tell."""
    console = results()
    if translations is None:
        console.print(plain("what the budget is in other currencies is known once the images are there", "dim"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column(plain("budget"), overflow="fold")
    for column in ("sparsity", "weights", "parameters", "MACs", "compact size"):
        table.add_column(plain(column), justify="right", overflow="fold")
    for item in translations:
        macs = _shown(item.macs, number)
        if item.budget.endswith(" macs"):
            macs = f"≤ {macs}"
        quantities = (item.sparsity, _share), (item.kept, number), (item.parameters, number)
        row = [*(_shown(value, tell) for value, tell in quantities), macs, _shown(item.bytes, size)]
        table.add_row(plain(item.budget), *map(plain, row))
        alike = [_uniform(*pair) for pair in (*quantities, (item.macs, number), (item.bytes, size))]
        table.add_row(plain("  uniform", "dim"), *(plain(text, "dim") for text in alike))
    console.print(table)
    console.print(plain("ranges depend on which layers keep weights; uniform: the same share in each", "dim"))


def _shown(value: float | Between, tell: Callable[[float], str]) -> str:
    if not isinstance(value, Between):
        return tell(value)
    low, high = tell(value.lowest), tell(value.highest)
    if low.partition(" ")[2] == high.partition(" ")[2]:  # one unit is enough
        low = low.partition(" ")[0]
    return high if value.lowest == value.highest else f"{low}–{high}"


def _uniform(value: float | Between, tell: Callable[[float], str]) -> str:
    return tell(value.uniform) if isinstance(value, Between) else ""


def _share(sparsity: float) -> str:
    # Two digits of what is left: 0.99995 is not 1.
    digits = 2 - math.floor(math.log10(1 - sparsity)) if sparsity else 1
    return f"{round(sparsity, digits):.15g}"
