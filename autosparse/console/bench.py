"""How fast a machine is, as a person reads it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from autosparse.console.format import plain, results
from autosparse.cost import Bench
from autosparse.text import number


def show_bench(bench: Bench, about: dict[str, Any]) -> None:
    """Training beside the plain loop, scoring, and what of the machine's peak they are."""
    console = results()
    threads = f"{about['threads']} thread{'s' * (about['threads'] != 1)}"
    console.print(plain(f"{about['processor']}, {about['device']}, {threads}, torch {about['torch']}", "bold"))
    told = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in bench.peaks.items())
    console.print(plain(f"product of two matrices, GFLOP/s: {told}", "dim"))
    table = _table("images a second", "plain loop", "autosparse", "times", "GFLOP/s", "share")
    for item in bench.trained:
        table.add_row(
            *map(plain, (
                f"{item.model} {item.batch} {item.precision}",
                _spread(item.plain),
                _spread(item.rates),
                f"{item.ratio:.2f}",
                f"{item.operations / 1e9:,.0f}",
                f"{100 * item.share:.0f} %",
            ))
        )  # fmt: skip
    console.print(table)
    table = _table(f"scoring {bench.largest}", "weights a second")
    for name, rate in bench.scored.items():
        table.add_row(plain(name), plain(number(rate)))
    console.print(table)
    rounds = len(bench.trained[0].rates)
    each = f"median (least–most) of {rounds} rounds, in turns" if rounds > 1 else "one round"
    console.print(plain(f"{each}; share: of that product", "dim"))
    console.print(plain("the plain loop: a DataLoader of torchvision's transforms, NCHW, float32", "dim"))


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(plain(title), overflow="fold")
    for column in columns:
        table.add_column(plain(column), justify="right", overflow="fold")
    return table


def _spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.0f}–{max(values):.0f})"
