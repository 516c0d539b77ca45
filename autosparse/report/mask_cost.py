"""Costs of masks: counted work in dense trainings, the same on every machine, and measured seconds."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

from autosparse.cost.work import count_dense_training, count_work
from autosparse.planning.model import Cell
from autosparse.report.finished import Finished
from autosparse.report.schema import MaskCost
from autosparse.steps.workload import sum_counted


def describe_mask_costs(finished: Finished) -> list[MaskCost]:
    """Return the cost of the masks of every method and budget: a mask, and the rounds of IRP that it needs."""
    cells: dict[tuple[str, str], list[list[str]]] = {}
    for cell in finished.plan.cells:
        if steps := _steps_of(finished, cell):
            cells.setdefault((cell.method, cell.budget), []).append(steps)
    works, dense = count_work(finished.plan), count_dense_training(finished.plan)
    costs = []
    for (method, budget), seeds in cells.items():
        seconds = round(fmean(sum(map(finished.seconds, steps)) for steps in seeds), 3)
        if dense is None or not all(name in works for steps in seeds for name in steps):
            costs.append(MaskCost(method, budget, seconds, None, None, None, None))
            continue
        counted = sum_counted(works[name].load.counted for steps in seeds for name in steps)
        mean = {name: round(total / len(seeds)) for name, total in asdict(counted).items()}
        trainings = float(f"{counted.macs / len(seeds) / dense.macs:.6g}")
        costs.append(MaskCost(method, budget, seconds, trainings, **mean))
    return costs


def _steps_of(finished: Finished, cell: Cell) -> list[str]:
    # The mask's steps; none for a dense network, a control, or a mask that was not made.
    if cell.mask is None or cell.role == "control":
        return []
    inputs = finished.plan.steps[cell.mask].inputs
    steps = [cell.mask, *(name for role, name in inputs.items() if role.startswith(("round", "rewind")))]
    return steps if all(map(finished.has, steps)) else []
