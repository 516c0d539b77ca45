"""Failed steps and missing cells of a run, and warnings about masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from autosparse.report.finished import Finished
from autosparse.report.schema import Failure, Missing
from autosparse.steps.mask import MaskResult

_NAMED = 3  # steps that failed for one reason


def find_missing(finished: Finished, failures: Iterable[Failure]) -> list[Missing]:
    """Return the cells of a plan without a result, in the plan's order."""
    causes = {name: failure for failure in failures for name in (failure.step, *failure.skipped)}
    lost = [cell for cell in finished.plan.cells if not finished.has(cell.evaluate)]
    return [
        Missing(cell.method, cell.budget, cell.sparsity, cell.seed, cell.role == "control", cause.status, cause.step)
        for cell, cause in ((cell, causes[cell.evaluate]) for cell in lost)
    ]


def describe_failures(failures: Iterable[Failure], missing: Sequence[Missing], results: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for every reason of failures, with its steps, and for every mean that lacks a seed.

    `results` are those of methods and controls.
    """
    reasons: dict[str, list[Failure]] = {}
    for failure in failures:
        reasons.setdefault(failure.message.removeprefix(f"step `{failure.step}` failed: "), []).append(failure)
    for reason, alike in reasons.items():
        skipped = sum(len(failure.skipped) for failure in alike)
        after = f"; {skipped} dependent step{'s' * (skipped > 1)} skipped" if skipped else ""
        names = ", ".join(f"`{failure.step}`" for failure in alike[:_NAMED])
        more = f" and {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
        yield f"step{'s' * (len(alike) > 1)} {names}{more} failed: {reason}{after}"
    seeds = Counter((result.method, result.budget) for result in results)
    for (method, budget), cells in missing_by_cell(missing).items():
        if left := seeds[method, budget]:
            causes = ", ".join(f"seed {one.seed} {one.status}" for one in cells)
            yield f"{method} at {budget} is the mean over {left} of {left + len(cells)} seeds: {causes}"


def counted(statuses: Sequence[str], *, alone: bool) -> str:
    """Count the statuses of seeds: `1 diverged, 2 failed`; `diverged` where they are all alike and stand `alone`."""
    numbers = Counter(statuses)
    if alone and len(numbers) == 1:
        return statuses[0]
    return ", ".join(f"{number} {status}" for status, number in numbers.items())


def missing_by_cell(missing: Iterable[Missing]) -> dict[tuple[str, str], list[Missing]]:
    """Return the missing networks by method and budget, in order."""
    cells: dict[tuple[str, str], list[Missing]] = {}
    for one in missing:
        cells.setdefault((one.method, one.budget), []).append(one)
    return cells


def describe_notes(finished: Finished) -> list[str]:
    """Return the notes of all masks of the comparison, and what is left out of the dataset."""
    methods: dict[str, dict[str, None]] = {}  # note -> the methods with it, in order
    for cell in finished.cells:
        if cell.mask and finished.has(cell.mask):
            for note in MaskResult.read(finished.open(cell.mask)).notes:
                methods.setdefault(note, {})[cell.method] = None
    return [*finished.plan.warnings, *(f"{', '.join(names)}: {note}" for note, names in methods.items())]
