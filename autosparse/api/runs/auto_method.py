"""`method: auto`: the method with the best validation accuracy in earlier runs of a spec, within its time."""

from __future__ import annotations

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
from autosparse.spec import Spec, resolve
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
    memory = f"method-{digest([spec.model_dump(mode='json'), spec.target.seconds])}"
    chosen = None if refit else store.recall(memory, str | None)
    if chosen in methods:
        why = f"method `{chosen}`, chosen for `method: auto` before; `--refit` chooses again"
        return spec.model_copy(update={"method": methods[chosen]}), why
    plan = compile_plan(resolve(spec, machine), name)
    cells = _cells(plan)
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
        took = f"mask and training took {minutes(least.seconds)} with `{least.name}`, the fastest method with results"
        raise FitError(
            f"{took}, above `target.time` {spec.target.time}",
            f"`--set target.time={sufficient_time(least.seconds)}` is sufficient",
        )
    best = max(within, key=lambda one: one.accuracy)
    store.note(memory, best.name)
    why = (
        f"method `{best.name}`, chosen for `method: auto`: {best.accuracy:.1f} % on validation images, the best of "
        f"{plural(len(within), 'method')}; mask and training took {minutes(best.seconds)}"
    )
    slower = f"; {plural(len(known) - len(within), 'method')} took longer than `target.time`" * (within != known)
    return spec.model_copy(update={"method": methods[best.name]}), why + slower + (f"; {_needed(left)}" if left else "")


def _cells(plan: Plan) -> dict[str, list[Cell]]:
    # The cells of every method at the strictest budget.
    budgets = {cell.budget: PlannedBudget(cell.budget, cell.sparsity) for cell in plan.cells if cell.role != "dense"}
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
        known.append(_Known(method, accuracy, costs.get((method, cells[method][0].budget), 0.0)))
    return known


def _needed(absent: Mapping[str, Sequence[str]]) -> str:
    names = [name for names in absent.values() for name in names]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"without results: {', '.join(absent)} (missing: {', '.join(names[:_SHOWN])}{more})"
