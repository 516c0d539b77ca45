"""Cells of the comparison and the transfer benchmark: the accuracy of one method at one sparsity and seed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from records import Row, read

from autosparse.report.significance import difference, holm

IMAGES = {"vgg_last_five": 5_000}
"""Network -> its number of test images, where it is not the 10,000 of CIFAR-10."""

PAIRS = [
    *(("learned", worse) for worse in ("igq", "erk")),
    *(("learned@50", worse) for worse in ("igq+50", "erk+50", "search_igq@50", "search_erk@50", "learned", "irp@50")),
    *(("learned@150", worse) for worse in ("igq+150", "erk+150", "search_igq@150", "irp@150", "irp")),
    ("learned@600", "irp"),
    *(("learned", worse) for worse in ("irp_quotas", "learned_other")),
    ("learned@50", "learned_other@50"),
    *(("learned@17", worse) for worse in ("learned@50", "igq", "erk", "irp")),
]
"""(method, the method it is compared with): the differences that the transfer benchmark tests."""


@dataclass(frozen=True)
class Difference:
    """The difference of test accuracy between two methods, paired by seed."""

    method: str
    other: str
    sparsity: float
    gains: list[float]
    p: float | None
    """paired by seed, at least that of counting the test images, by Holm's correction over all differences of the
    network; none below three seeds"""

    def __str__(self) -> str:
        return spread(self.gains, "+.2f", ".2f")


def cells() -> list[Row]:
    """Return the cells of both benchmarks by network; a cell that both measure counts once."""
    rows = {}
    for row in (*read("transfer"), *read("comparison")):
        network = row.get("target") or row["network"]
        rows.setdefault((network, row["method"], row["sparsity"], row["seed"]), {**row, "network": network})
    return [*rows.values()]


def of_method(rows: Iterable[Row], method: str, sparsity: float) -> list[Row]:
    """Return the cells of a method at a sparsity, in the order of seeds."""
    chosen = [row for row in rows if (row["method"], row["sparsity"]) == (method, sparsity)]
    return sorted(chosen, key=lambda row: row["seed"])


def differences(rows: Iterable[Row]) -> list[Difference]:
    """Return the tested differences of one network."""
    tests = [*_tests([*rows])]
    adjusted = iter(holm([p for *_, p in tests if p is not None]))
    return [Difference(*test, None if p is None else next(adjusted)) for *test, p in tests]


def _tests(rows: list[Row]) -> Iterator[tuple[str, str, float, list[float], float | None]]:
    accuracies: dict[tuple[str, float], dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        accuracies.setdefault((row["method"], row["sparsity"]), {})[row["seed"]] = row["test_accuracy"]
    for sparsity in sorted({row["sparsity"] for row in rows}):
        for method, other in PAIRS:
            first, second = accuracies.get((method, sparsity), {}), accuracies.get((other, sparsity), {})
            gains = [value - second[seed] for seed, value in first.items() if seed in second]
            test = difference(first, second, IMAGES.get(rows[0]["network"], 10_000))
            if test is not None:
                yield method, other, sparsity, gains, test.p if len(gains) > 2 else None


def spread(values: list[float], mean: str = ".1f", deviation: str = ".1f") -> str:
    """Return the mean, the standard deviation over more than one value, and the number of values."""
    text = f" ± {statistics.stdev(values):{deviation}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{mean}}{text} ({len(values)})"


def table(network: str, rows: list[Row], order: Callable[[str], float]) -> str:
    """Return methods by sparsities as text, in ascending `order`; validation accuracy in brackets."""
    sparsities = sorted({row["sparsity"] for row in rows})
    lines = [f"{network:<18}" + "".join(f"{sparsity:>24}" for sparsity in sparsities)]
    for method in sorted({row["method"] for row in rows}, key=lambda name: (order(name), name)):
        entries = [entry(of_method(rows, method, sparsity)) for sparsity in sparsities]
        lines.append(f"  {method:<16}" + "".join(f"{entry:>24}" for entry in entries))
    return "\n".join(lines)


def entry(rows: list[Row]) -> str:
    """Return test accuracy, mean ± sd over the rows, with validation accuracy in brackets; a dash without rows."""
    if not rows:
        return "–"
    validation = statistics.fmean(row["validation_accuracy"] for row in rows)
    return f"{spread([row['test_accuracy'] for row in rows])} [{validation:.1f}]"


def mean_at(rows: list[Row], method: str, *sparsities: float) -> float:
    """Return the mean test accuracy of a method at some sparsities, 0 where it has no cell."""
    values = [row["test_accuracy"] for row in rows if row["method"] == method and row["sparsity"] in sparsities]
    return statistics.fmean(values) if values else 0.0
