"""`method: auto`: the method with the best validation accuracy in earlier runs of a spec, within its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from autosparse.backends import Machine
from autosparse.cost.time_limit import minutes, sufficient_time
from autosparse.errors import FitError
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Cell, Plan, PlannedBudget, strictest
from autosparse.report.finished import Finished
from autosparse.report.mask_cost import describe_mask_costs
from autosparse.spec import DENSE, Method, Spec, resolve
from autosparse.steps.train import EvaluateResult
from autosparse.store import Store, digest
from autosparse.text import plural

_SHOWN = 3  # missing steps that a message names


@dataclass(frozen=True)
class _Known:
    # A method with results at every seed: mean validation accuracy in percent, and seconds of mask and training.
    name: str
    accuracy: float
    seconds: float


def choose_method(spec: Spec, machine: Machine, name: str, store: Store, *, refit: bool = False) -> tuple[Spec, str]:
    """Return a spec with its `method: auto` replaced, and the reason; other specs unchanged, without a reason.

    Accuracies are those of the strictest budget, means over the seeds of the spec; seconds those that mask and training
    took for one network. The choice is remembered until `refit`.

    Raises FitError if no method has results, or none of those takes at most `target.time`.
    """
    if spec.method_by != "validation":
        return spec, ""
    methods = {method.name: method for method in spec.methods}
    if not spec.compared and all(one == DENSE for one in spec.compare):
        raise FitError("`method: auto` chooses among the methods of `compare`, which names none", "name the method")
    plan = compile_plan(resolve(spec, machine), name)
    cells = _cells(plan)
    keys = [plan.steps[cell.evaluate].key for its in cells.values() for cell in its]
    memory = f"method-{digest([keys, spec.target.seconds])}"
    chosen = None if refit else store.recall(memory, str | None)
    if chosen in methods:
        why = f"method `{chosen}`, chosen for `method: auto` before; `--refit` chooses again"
        return _with_method(spec, methods[chosen]), why
    absent = {method: [one.evaluate for one in its if not _is_made(plan, store, one)] for method, its in cells.items()}
    known = _known(plan, store, cells, [method for method, names in absent.items() if not names])
    left = {method: names for method, names in absent.items() if names}
    if not known:
        raise FitError(
            f"`method: auto` chooses by earlier results of the spec, but there are none: {_needed(left)}",
            f"`--set method={next(iter(methods))}` runs all of them",
        )
    limit = spec.target.seconds
    within = [one for one in known if limit is None or one.seconds <= limit]
    if not within:
        least = min(known, key=lambda one: one.seconds)
        took = f"mask and training took {_time(least.seconds)} with `{least.name}`, the fastest method with results"
        raise FitError(
            f"{took}, above `target.time` {spec.target.time}",
            f"`--set target.time={sufficient_time(least.seconds)}` is sufficient",
        )
    best = max(within, key=lambda one: one.accuracy)
    if not left:  # a choice among all methods stays
        store.note(memory, best.name)
    why = (
        f"method `{best.name}`, chosen for `method: auto`: {best.accuracy:.1f} % on validation images, the best of "
        f"{plural(len(within), 'method')}; mask and training took {_time(best.seconds)}"
    )
    slower = f"; {plural(len(known) - len(within), 'method')} took longer than `target.time`" * (within != known)
    return _with_method(spec, methods[best.name]), why + slower + (f"; {_needed(left)}" if left else "")


def _with_method(spec: Spec, method: Method) -> Spec:
    # A plan of the chosen method is that of a spec which names it.
    return spec.model_copy(update={"method": method, "method_by": "spec"})


def _cells(plan: Plan) -> dict[str, list[Cell]]:
    # The cells of every method at the strictest budget.
    amounts = {str(budget): None if isinstance(budget, float) else budget for budget in plan.spec.budget}
    budgets = {
        cell.budget: PlannedBudget(cell.budget, cell.sparsity, amounts.get(cell.budget))
        for cell in plan.cells
        if cell.role in ("method", "compared")
    }
    label = strictest([*budgets.values()]).label
    methods: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        if cell.budget == label and cell.role in ("method", "compared"):
            methods.setdefault(cell.method, []).append(cell)
    return methods


def _is_made(plan: Plan, store: Store, cell: Cell) -> bool:
    steps = (plan.steps[name] for name in (cell.evaluate, cell.train, *([cell.mask] if cell.mask else [])))
    return all(store.has(step.operation, step.key) for step in steps)


def _known(plan: Plan, store: Store, cells: Mapping[str, Sequence[Cell]], methods: Sequence[str]) -> list[_Known]:
    every = {(step.operation, step.key): name for name, step in plan.steps.items()}
    made = store.present([*every])
    absent = frozenset(name for (_, key), name in every.items() if key not in made)
    finished = Finished(plan, store, absent)
    costs = {(one.method, one.budget): one.seconds + one.training_seconds for one in describe_mask_costs(finished)}
    known = []
    for method in methods:
        results = [EvaluateResult.read(finished.open(cell.evaluate)) for cell in cells[method]]
        accuracy = fmean(result.validation_accuracy for result in results)
        known.append(_Known(method, accuracy, costs.get((method, cells[method][0].budget), math.inf)))
    return known


def _needed(absent: Mapping[str, Sequence[str]]) -> str:
    names = [name for names in absent.values() for name in names]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"without results: {', '.join(absent)} (missing: {', '.join(names[:_SHOWN])}{more})"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else minutes(seconds)
