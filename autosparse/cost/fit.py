"""Makes a plan fit its target: leaves data on disk, evaluates in smaller batches, lowers what the spec leaves open.

Nothing that was written is touched, and never the training of the networks that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

from autosparse.backends import Machine, Placement, memory_of
from autosparse.cost.fitted import Adjustment, Fitted, with_workers
from autosparse.cost.memory_limit import highest_peak, mebibytes, memory_word, too_large, within_memory
from autosparse.cost.price import NO_PRICE, THIS_MACHINE, Calibration, price
from autosparse.cost.time_limit import limit_trials, minutes, sufficient_time, trials_too_long, within_time
from autosparse.errors import FitError
from autosparse.measure.probe import Rates
from autosparse.plan.budgets import check_budget
from autosparse.plan.compile import compile_plan
from autosparse.plan.status import statuses
from autosparse.spec import Spec, resolve, with_settings
from autosparse.store import Index, Store


def fit_plan(
    spec: Spec,
    machine: Machine,
    name: str,
    store: Store,
    index: Index,
    say: Callable[[str], None] = lambda text: None,
    *,
    refit: bool = False,
    timed: bool = True,
    calibration: Calibration = THIS_MACHINE,
) -> Fitted:
    """Compile, price and fit a spec.

    Choices under `target.time` and `tuning.time` are remembered until `refit`, which measures the machine again.
    Without `timed` these limits do not apply, as for a plan that was fitted before.

    Raises UsageError for a budget that is impossible.
    """
    rates: dict[str, Rates] = {}

    def attempt(spec: Spec) -> Fitted:
        plan = compile_plan(resolve(spec, machine), name)
        check_budget(plan)
        target = plan.spec.target
        assert isinstance(target.threads, int)
        current, cost = statuses(plan, store, index), NO_PRICE
        if machine.has(target.device):
            cost = price(plan, store, index, current, say, rates, calibration=calibration, refit=refit)
        placement = Placement(target.device, target.threads, devices=target.devices)
        memory = target.memory_bytes or (math.inf if target.elsewhere else memory_of(target.device))
        return with_workers(Fitted(plan, current, cost, placement, memory), machine.cores)

    asked, settings = spec, dict[str, float]()
    if timed:
        spec = limit_trials(spec, store, lambda spec: attempt(spec).price, refit=refit)
        fitted, settings = within_time(spec, attempt, store, refit=refit)
    else:
        fitted = attempt(spec)
    if spec.tuning.trials != asked.tuning.trials:
        limit = f"tuning.time {asked.tuning.time}"
        chosen = Adjustment("tuning.trials", asked.tuning.trials, spec.tuning.trials, limit)
        notes = (*fitted.notes, *trials_too_long(fitted, asked))
        fitted = replace(fitted, adjustments=(chosen, *fitted.adjustments), notes=notes)
    fitted, heavy = within_memory(fitted)
    problem = too_large(fitted, heavy, with_settings(spec, settings), attempt) if heavy else fitted.problem
    return replace(fitted, problem=problem)


def fit_steps(fitted: Fitted, names: Collection[str]) -> Fitted:
    """A plan of which only some steps run: where they fit though all do not, `problem` is None."""
    if fitted.problem is None or len(names) == len(fitted.statuses):
        return fitted
    some, heavy = within_memory(replace(fitted, statuses={name: fitted.statuses[name] for name in names}, problem=None))
    problem = None
    if heavy:
        size = f"`--set target.memory={mebibytes(heavy)}`"
        problem = FitError(f"{highest_peak(heavy)}, above {memory_word(fitted)}", f"{size} would fit")
    elif (limit := fitted.plan.spec.target.seconds) is not None and (need := some.seconds) > limit:
        problem = FitError(
            f"these steps take about {minutes(need)}, above `target.time` {fitted.plan.spec.target.time}",
            f"`--set target.time={sufficient_time(need)}` would do",
        )
    return replace(fitted, placement=some.placement, problem=problem)
