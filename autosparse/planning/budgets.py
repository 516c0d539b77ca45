"""Budgets converted between sparsity, parameters, multiply-adds and bytes, for one network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from autosparse.core.allocation import apportion, most_within
from autosparse.core.weights import keep_count, sparsity_of
from autosparse.errors import UsageError
from autosparse.models.facts import LayerFacts, NetworkFacts
from autosparse.planning.builder import blame, facts_of
from autosparse.planning.model import Plan, PlannedBudget
from autosparse.spec import Amount, BudgetValue, Method, RelativeAmount, Spec

_FLOAT, _INDEX = 4, 4
"""Bytes of a float32 number, and of the position of a kept weight."""


@dataclass(frozen=True)
class Between:
    """A value that depends on the allocation: bounds with a weight kept in every layer, and the value for `uniform`."""

    lowest: float
    highest: float
    uniform: float


@dataclass(frozen=True)
class Translation:
    """One budget in every currency; `macs` of a budget in multiply-adds is the upper limit.

    `limit` is the amount of the budget in its currency, also of a relative one; None for a sparsity.
    """

    budget: str
    sparsity: float | Between
    kept: float | Between
    parameters: float | Between
    macs: float | Between
    bytes: float | Between
    limit: int | None = None


def plan_budget(budget: Amount | RelativeAmount, facts: NetworkFacts, network: str) -> PlannedBudget:
    """Return the budget of masks: a latency, multiply-adds, else a sparsity. Raises UsageError for an impossible one.

    Ways to write one number have one result, and so one key. The dense network's latency is measured by a step.
    """
    if budget.currency == "latency":
        return PlannedBudget(str(budget), None, budget)
    if (amount := whole_amount(budget, facts)).currency == "macs":
        return PlannedBudget(str(budget), None, amount)
    return PlannedBudget(str(budget), sparsity_for(budget, facts, network))


def whole_amount(budget: Amount | RelativeAmount, facts: NetworkFacts) -> Amount:
    """Return the amount of a budget as a number, at most its share of the dense network's amount."""
    return budget.of(_dense(budget.currency, facts)) if isinstance(budget, RelativeAmount) else budget


def _dense(currency: str, facts: NetworkFacts) -> int:
    return {
        "parameters": facts.parameters,
        "macs": facts.macs,
        "bytes": _FLOAT * (facts.parameters + facts.buffers),
    }[currency]


def translate(budget: BudgetValue, facts: NetworkFacts) -> Translation:
    """Convert one possible budget to every currency."""
    label, total, unprunable = str(budget), facts.total, facts.parameters - facts.total
    amount = None if isinstance(budget, float) else whole_amount(budget, facts)
    limit = amount.amount if amount else None
    if amount and amount.currency == "macs":
        kept = _affordable(amount.amount, facts)
        sparsities = [sparsity_of(total, int(keep)) for keep in (kept.highest, kept.lowest, kept.uniform)]
        stored = [compact_bytes(int(keep), facts) for keep in (kept.lowest, kept.highest, kept.uniform)]
        parameters = Between(kept.lowest + unprunable, kept.highest + unprunable, kept.uniform + unprunable)
        return Translation(label, Between(*sparsities), kept, parameters, amount.amount, Between(*stored), limit)
    sparsity = sparsity_for(budget, facts, "the network")
    keep = keep_count(total, sparsity)
    dearest = _dearest_first(facts)
    macs = Between(_filled(dearest[::-1], keep), _filled(dearest, keep), _uniform(facts, keep))
    return Translation(label, sparsity, keep, keep + unprunable, macs, compact_bytes(keep, facts), limit)


def compact_bytes(keep: int, facts: NetworkFacts) -> int:
    """Return the compact format's bytes without names: all other numbers, kept weights with a bitmap or positions."""
    weights = min(math.ceil(facts.total / 8) + _FLOAT * keep, (_FLOAT + _INDEX) * keep)
    return weights + _FLOAT * (facts.parameters - facts.total + facts.buffers)


def sparsity_for(budget: BudgetValue, facts: NetworkFacts, network: str) -> float:
    """Return the sparsity of a budget in weights, parameters or bytes. Raises UsageError for an impossible one."""
    total, layers = facts.total, len(facts.layers)
    if isinstance(budget, float):
        if (keep := keep_count(total, budget)) < layers:
            highest = math.floor((1 - layers / total) * 10**6) / 10**6
            message = f"sparsity {budget} leaves {keep:,} of {total:,} weights for the {layers} layers of {network}"
            raise UsageError(message, f"the maximum, one weight in each layer, is {highest:.6f}")
        return budget
    if not total:
        raise UsageError(f"{network} has no prunable weight")
    limit = whole_amount(budget, facts).amount
    if budget.currency == "parameters":
        least, fixed = facts.parameters - total + layers, facts.parameters - total
        keep = limit - fixed
    else:
        least, fixed = compact_bytes(layers, facts), compact_bytes(0, facts)
        keep = most_within(lambda keep: compact_bytes(keep, facts), limit, 0, total)
    _refuse_more(budget, facts, network)
    if keep < layers:
        left = f"leaves {keep:,} of {total:,} weights for the {layers} layers of {network}"
        if limit < fixed:
            left = (
                f"is less than the {fixed:,} {budget.currency} that {network} has in addition to its prunable weights"
            )
        raise UsageError(f"{_written(budget, facts)} {left}", _minimum(budget, least, facts))
    return sparsity_of(total, keep)


def check_macs(budget: Amount | RelativeAmount, facts: NetworkFacts, network: str) -> None:
    """Raise UsageError for a budget below one weight in every layer, or above the dense network."""
    _refuse_more(budget, facts, network)
    if whole_amount(budget, facts).amount < (least := _filled(facts.layers, len(facts.layers))):
        raise UsageError(
            f"{_written(budget, facts)} is less than {network} takes with one weight in each of its "
            f"{len(facts.layers)} layers",
            _minimum(budget, least, facts),
        )


def _refuse_more(budget: Amount | RelativeAmount, facts: NetworkFacts, network: str) -> None:
    if isinstance(budget, Amount) and budget.amount > (dense := _dense(budget.currency, facts)):
        message = f"{_written(budget, facts)} exceeds the {dense:,} {budget.currency} of the dense {network}"
        raise UsageError(message, "a budget is an upper limit: give less, or 0 to prune nothing")


def _written(budget: Amount | RelativeAmount, facts: NetworkFacts) -> str:
    amount = str(budget).removesuffix(budget.currency).strip()
    number = f", {whole_amount(budget, facts)}," if isinstance(budget, RelativeAmount) else ""
    return f"{{{budget.currency}: {amount}}}{number}"


def _minimum(budget: Amount | RelativeAmount, least: int, facts: NetworkFacts) -> str:
    # A percentage is rounded up to three digits, so that it is possible; `{macs: 30}` may mean 30 %.
    minimum, dense = f"the minimum, one weight in each layer, is {least}", _dense(budget.currency, facts)
    if isinstance(budget, RelativeAmount):
        percent = Fraction(100 * least, dense)
        digits = max(0, 2 - math.floor(math.log10(percent)))
        return f"{minimum}, or {math.ceil(percent * 10**digits) / 10**digits:.{digits}f}%"
    if budget.amount <= 100 and budget.amount * dense >= 100 * least:
        return f"did you mean {{{budget.currency}: {budget.amount}%}}? {minimum}"
    return minimum


def _affordable(limit: int, facts: NetworkFacts) -> Between:
    """Return the weights kept within multiply-adds: most expensive layers filled first, cheapest first, uniform."""
    dearest = _dearest_first(facts)
    macs = (partial(_filled, dearest), partial(_filled, dearest[::-1]), partial(_uniform, facts))
    return Between(*(most_within(count, limit, len(facts.layers), facts.total) for count in macs))


def _dearest_first(facts: NetworkFacts) -> list[LayerFacts]:
    return sorted(facts.layers, key=lambda layer: -layer.positions)


def _filled(layers: Sequence[LayerFacts], keep: int) -> int:
    """Return the multiply-adds with one weight in each layer, and the others in the first layers."""
    left, macs = keep - len(layers), sum(layer.positions for layer in layers)
    for layer in layers:
        more = min(left, layer.size - 1)
        macs += more * layer.positions
        left -= more
    return macs


def _uniform(facts: NetworkFacts, keep: int) -> int:
    sizes = {layer.name: layer.size for layer in facts.layers}
    counts = apportion({name: float(size) for name, size in sizes.items()}, sizes, keep)
    return sum(counts[layer.name] * layer.positions for layer in facts.layers)


def check_budget(plan: Plan) -> None:
    """Raise UsageError for a budget below one weight a layer or above the dense network, once the images exist."""
    if (facts := _facts(plan)) is None:
        return
    name = plan.spec.model.short_name
    for index, budget in enumerate(plan.spec.budget):
        with blame(f"budget.{index}"):
            if _is_latency(budget):
                continue
            if not isinstance(budget, float) and budget.currency == "macs":
                check_macs(budget, facts, name)
            else:
                sparsity_for(budget, facts, name)
            for method in plan.spec.methods:
                _check_pattern(budget, facts, method)


def _check_pattern(budget: BudgetValue, facts: NetworkFacts, method: Method) -> None:
    # The spec checks a sparsity. Layers that stay whole may need more than this: the masks know them.
    if isinstance(budget, float) or (given := method.given_sparsity) is None:
        return
    total, fixed = facts.total, facts.parameters - facts.total
    keep = math.ceil((1 - given) * total)
    least = {
        "macs": math.ceil((1 - given) * facts.macs),
        "parameters": fixed + keep,
        "bytes": compact_bytes(keep, facts),
    }[budget.currency]
    if whole_amount(budget, facts).amount < least:
        kept = f"the {least:,} {budget.currency} that unit `{method.pattern}` of method `{method.name}` keeps at least"
        raise UsageError(f"{_written(budget, facts)} is less than {kept}", f"write `budget: {given:.4g}`")


def describe_patterns(spec: Spec) -> Iterator[str]:
    """Yield a warning for the patterns of methods, whose zeros no exported format skips."""
    for pattern in dict.fromkeys(method.pattern for method in spec.methods if method.pattern):
        skipped = (
            "TensorRT, cuSPARSELt and `torch.sparse.to_sparse_semi_structured` skip them on NVIDIA GPUs with sparse "
            "tensor cores"
        )
        by = skipped if pattern == "2:4" else "sparse tensor cores of NVIDIA GPUs skip those of 2:4 alone"
        yield f"unit {pattern} makes no exported model faster here: all formats multiply its zeros; {by}"


def translations(plan: Plan) -> list[Translation] | None:
    """Convert every budget of a checked plan to every currency; None while the size of the images is unknown.

    Latencies are left out: they depend on the shapes of all layers.
    """
    facts = _facts(plan)
    return None if facts is None else [translate(one, facts) for one in plan.spec.budget if not _is_latency(one)]


def _is_latency(budget: BudgetValue) -> bool:
    return not isinstance(budget, float) and budget.currency == "latency"


def limits(plan: Plan) -> dict[str, int]:
    """Return the maximum of every relative budget as a number, by its name; none while the images are absent."""
    relative = [budget for budget in plan.spec.budget if isinstance(budget, RelativeAmount) and not _is_latency(budget)]
    facts = _facts(plan) if relative else None
    return {str(budget): whole_amount(budget, facts).amount for budget in relative} if facts else {}


def _facts(plan: Plan) -> NetworkFacts | None:
    inputs = plan.steps[plan.cells[0].train].inputs
    if not plan.sources[inputs["data"]].known:
        return None
    facts = facts_of(plan.steps[inputs["init"]])
    return facts if facts.total else None  # a network without prunable weights fails in its first mask, with the reason
