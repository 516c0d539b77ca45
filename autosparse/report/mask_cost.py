"""Costs of masks and of training: counted work in dense trainings, the same on every machine, and measured seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from statistics import fmean

from autosparse.cost.work import count_dense_training, count_work
from autosparse.planning.model import Cell, Plan
from autosparse.report.finished import Finished
from autosparse.report.recipes import Reference
from autosparse.report.schema import MaskCost
from autosparse.spec import DENSE
from autosparse.steps.train import EvaluateResult
from autosparse.steps.tuning.chosen_recipe import ChosenRecipe
from autosparse.steps.workload import Counted, longest_recipe, sum_counted


def describe_mask_costs(finished: Finished) -> list[MaskCost]:
    """Return the cost of every method and budget: a mask with the rounds of IRP that it needs, and the training.

    A method that changes masks during training spends on masks only what precedes the training.
    """
    cells: dict[tuple[str, str], list[tuple[list[str], str]]] = {}
    for cell in finished.plan.cells:
        if (steps := _mask_steps(finished, cell)) is not None:
            cells.setdefault((cell.method, cell.budget), []).append((steps, _training(finished, cell)))
    works, dense = count_work(finished.plan), count_dense_training(finished.plan)
    costs = []
    for (method, budget), seeds in cells.items():
        seconds = round(fmean(sum(map(finished.seconds, steps)) for steps, _ in seeds), 3)
        timed = [finished.seconds(train) for _, train in seeds if finished.has(train)]
        training = round(fmean(timed), 3) if timed else 0.0
        if dense is None or not all(name in works for steps, train in seeds for name in (*steps, train)):
            costs.append(MaskCost(method, budget, seconds, None, None, None, None, training_seconds=training))
            continue
        counted = sum_counted(works[name].load.counted for steps, _ in seeds for name in steps)
        trained = sum_counted(works[train].load.counted for _, train in seeds)
        mean = {name: round(total / len(seeds)) for name, total in asdict(counted).items()}
        trainings, whole = (_ratio(part, len(seeds), dense) for part in (counted, trained))
        costs.append(MaskCost(method, budget, seconds, trainings, **mean, training=whole, training_seconds=training))
    return costs


def describe_references(finished: Finished) -> list[Reference]:
    """Return the dense networks of a plan by length, shortest first; none for a plan of one length."""
    plan, epochs = finished.plan, float(finished.plan.spec.training.epochs)
    dense = [cell for cell in plan.cells if cell.role == DENSE]
    lengths: dict[float, list[Cell]] = {}
    for cell in (*dense, *plan.references) if plan.references else ():
        if finished.has(cell.evaluate):
            recipe = longest_recipe(plan.steps[_training(finished, cell)].options)
            lengths.setdefault(recipe["epochs"] / epochs, []).append(cell)
    works, whole = count_work(plan), count_dense_training(plan)
    references = []
    for length, cells in sorted(lengths.items()):
        results = [EvaluateResult.read(finished.open(cell.evaluate)) for cell in cells]
        names = [_training(finished, cell) for cell in cells]
        counted = sum_counted(works[name].load.counted for name in names if name in works)
        trainings = _ratio(counted, len(cells), whole) if whole and counted.macs else None
        seconds = round(fmean(map(finished.seconds, names)), 3)
        tests, others = ([getattr(one, f"{split}_accuracy") for one in results] for split in ("test", "validation"))
        references.append(Reference(length, trainings, seconds, len(cells), fmean(tests), fmean(others)))
    return references


def _ratio(work: Counted, networks: int, dense: Counted) -> float:
    # The mean work of one of several networks in dense trainings.
    return float(f"{work.macs / networks / dense.macs:.6g}")


def _training(finished: Finished, cell: Cell) -> str:
    # The step that trained the network: at the first seed the chosen candidate, if methods choose their recipe.
    if not cell.candidates or not finished.has(cell.recipe):
        return cell.train
    train = cell.candidates[ChosenRecipe.read(finished.open(cell.recipe)).number].train
    return train if finished.has(train) else cell.train


def _mask_steps(finished: Finished, cell: Cell) -> list[str] | None:
    # The steps before the training; None for a dense network, a control, or a mask that was not made.
    if cell.mask is None or cell.role == "control" or not finished.has(cell.mask):
        return None
    mask = finished.plan.steps[cell.train].inputs.get("mask")
    if mask is None:  # trained from dense
        return []
    steps = [mask, *_sources(finished.plan, mask)]
    return steps if all(map(finished.has, steps)) else None


def _sources(plan: Plan, step: str) -> Iterator[str]:
    # The steps that found an order of the weights. A ticket from other images costs its users nothing.
    inputs = plan.steps[step].inputs
    for role, name in inputs.items():
        if role.startswith(("round", "rewind", "order")):
            yield name
            if role == "order" and plan.steps[name].inputs.get("data") == inputs["data"]:
                yield from _sources(plan, name)
