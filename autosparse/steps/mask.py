"""mask, shuffle: a method's masks within one budget, and their layer-wise shuffled control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Self

from autosparse.core.allocation import allocations, macs
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import dissect
from autosparse.core.graph.repair import repairs
from autosparse.core.graph.slicing import Slicing, named
from autosparse.core.images import Images
from autosparse.core.irp import survival_order
from autosparse.core.sanity import shuffle as permute
from autosparse.core.schedule import Pruning, keeps_weights, schedules, training_steps
from autosparse.core.selection import selections
from autosparse.core.training.masked_steps import Divergence
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import Unit, units
from autosparse.core.units.cost import Cost, in_macs, in_weights
from autosparse.core.units.latency import LatencyTable
from autosparse.core.weights import Tensors, keep_count, left_out, total_of
from autosparse.core.zero_scores import with_signal
from autosparse.errors import Diverged, StepError
from autosparse.lazy_torch import torch
from autosparse.steps._base import Context, operations
from autosparse.steps.context import choose, gather_evidence, generator, masks_of, on_device
from autosparse.steps.irp import RoundResult
from autosparse.steps.latency import LatencyResult, PredictedLatency
from autosparse.steps.mask_result import ChannelMaskResult, MaskResult, read_masks
from autosparse.steps.scorer import ScorerResult, make_scorer
from autosparse.steps.tickets.orders import in_given_order
from autosparse.steps.workload import LINE, SAMPLE_BATCH, UNTRAINED, Counted, Facts, Workload

_REPAIR = 20  # passes of a repair: a few for each disconnected part
_HESSIAN_SECONDS = 2.5  # seconds of a Hessian product over those of a gradient: measured
_SINGLE = {"name": "weight", "options": {}}


def write_masks(context: Context, evidence: Evidence, made: Made) -> None:
    """Write masks, with their anatomy, the smaller network of whole channels, and the weights of a search."""
    anatomy = dissect(evidence.masked(made.masks))
    state = {"state": made.state} if made.state else {}
    if made.slicing is None:
        MaskResult.of(made.masks, anatomy, context.notes).write(context.output, masks=made.masks, **state)
        return
    about = {"groups": made.groups, "latency": made.latency}
    result = ChannelMaskResult.of(made.masks, anatomy, context.notes, **about)
    result.write(context.output, masks=made.masks, slices=named(made.slicing), **state)


def mask_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of a method's rounds: scores, selection, training steps between rounds, repair, diagnosis."""
    method = options["method"]
    schedule, criterion = method["schedule"], method["criterion"]
    scores = {
        name: fact(criterion["options"]) if callable(fact) else fact
        for name, fact in criteria[criterion["name"]].facts.items()
    }
    rounds = schedule["options"].get("rounds", 1)
    scorings = rounds + ("repair" in method)
    images = min(criterion["options"].get("images", 0), facts.source.train_images)
    microbatch = math.ceil(min(images, SAMPLE_BATCH) / criterion["options"].get("parts", 1))
    products, described = scores.get("hessian_products", 0), bool(scores.get("features"))
    gradients = scores.get("gradients", 0) + _HESSIAN_SECONDS * products
    recipe = options.get("training", UNTRAINED)
    warm_up = facts.warm_up if scores.get("needs_scorer") else 0
    step_cost = schedules[schedule["name"]].facts.get("step_cost")
    steps = training_steps(method) * (step_cost(schedule["options"]) if step_cost else 1) + scorings * warm_up
    batch = facts.batch_of(recipe)
    layer_flows = selections[method["selection"]["name"]].facts.get("flows_per_layer", 0) * len(facts.network.layers)
    about = {**({"training": recipe} if batch else {}), **({"warm_up": warm_up} if warm_up else {})}
    data, held = facts.training_bytes, (4 + scores.get("states", 0)) * facts.state_bytes
    return Workload(
        {"method": method, "images": images, **about},
        {
            "step": 1,
            "build": 1,
            "bytes": data + facts.state_bytes + 5 * facts.network.total * facts.count("round"),
            "gradient": scorings * gradients * images,
            # The diagnosis takes three passes; reconnecting, a few for each disconnected part.
            "flow": rounds * (scores.get("flows", 0) + layer_flows)
            + 3
            + (_REPAIR if "repair" in method else 0)
            + (scorings * facts.feature_flows if described else 0),
            "features": scorings * scores.get("features", 0) * facts.network.total,
            "predict": scorings * facts.network.total * bool(scores.get("needs_scorer")),
            "select": rounds * facts.network.total,
            "train": steps * batch,
        },
        (
            {"data": 3 * data, "bytes": facts.state_bytes},
            {"data": data, "bytes": held, "gradient": microbatch * (2 if products else min(1, math.ceil(gradients)))},
            {"data": data, "bytes": held + (facts.feature_bytes if described else 0)},
            {"data": facts.with_border(recipe["crop"]), "bytes": 3 * held * bool(batch), "train": batch},
            {"data": data, "bytes": held + 32 * facts.network.total},  # paths are counted in float64
        ),
        facts.network.total + LINE + 240 * len(facts.network.layers) + keeps_weights(method) * facts.state_bytes,
        batch=recipe["batch"],
        precision=recipe["precision"],
        counted=_counted(method, scores, facts, recipe, images),
    )


def _counted(
    method: Mapping[str, Any], scores: Mapping[str, Any], facts: Facts, recipe: Mapping[str, Any], images: int
) -> Counted:
    # Scorings with their warm-up, training between rounds, and passes of ones; the diagnosis makes no mask.
    rounds: int = method["schedule"]["options"].get("rounds", 1)
    scorings = rounds + ("repair" in method)
    if scores.get("needs_scorer"):
        scoring = facts.described(facts.groups, images) + Counted(macs=facts.network.total * facts.predicted)
        scoring += facts.trained(recipe, facts.warm_up)
    else:
        gradients, products = scores.get("gradients", 0), scores.get("hessian_products", 0)
        scoring = facts.differentiated(images, gradients, products) + facts.passes_of_ones(scores.get("flows", 0))
    per_layer = selections[method["selection"]["name"]].facts.get("flows_per_layer", 0)
    passes = rounds * per_layer * len(facts.network.layers) + (_REPAIR if "repair" in method else 0)
    return scoring * scorings + facts.trained(recipe, training_steps(method)) + facts.passes_of_ones(passes)


@operations.register(
    result=MaskResult,
    read=read_masks,
    cost=mask_cost,
    spec_paths={"sparsity": "budget", "seed": "seeds", "round.*": "irp.rounds"},
)
def mask(
    context: Context,
    *,
    method: dict[str, Any],
    seed: int,
    sparsity: float = 0.0,
    budget: Any = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Make masks by a method's choices: exactly `keep_count(total, sparsity)` ones, or within `budget`.

    A budget is a number of `macs`, or of nanoseconds of `latency`; a text is a share of the dense network's. Input
    `latency` predicts.

    `training` holds the fields of the recipe for a schedule with training steps, or for a scorer with a warm-up.
    """
    write_masks(context, *make_masks(context, method, seed=seed, sparsity=sparsity, budget=budget, training=training))


@dataclass(frozen=True)
class Made:
    """Masks of weights, and of whole channels their groups and the smaller network; weights of a search."""

    masks: Tensors
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    slicing: Slicing | None = None
    latency: PredictedLatency | None = None
    state: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """The budget of a network: what it limits, that of the dense network, the most, and its name in errors."""

    cost: Cost
    total: int
    keep: int
    where: str

    @classmethod
    def of(cls, context: Context, evidence: Evidence, sparsity: float, budget: Any) -> Self:
        """Return the limit of a step's options."""
        if budget is None:
            total = total_of(evidence.weights)
            return cls(in_weights(evidence.layers), total, keep_count(total, sparsity), f"sparsity {sparsity}")
        if "macs" in budget:
            return cls(in_macs(evidence.layers), macs(evidence.layers), budget["macs"], f"{budget['macs']} macs")
        table = LatencyResult.read(context.inputs["latency"]).table
        total = table({name: tuple(weight.shape) for name, weight in evidence.weights.items()})
        asked = budget["latency"]
        keep = math.floor(Fraction(asked) * total) if isinstance(asked, str) else asked
        return cls(table, total, keep, f"{keep / 1e6:.4g} ms of {total / 1e6:.4g} ms")

    def predict(self, context: Context, evidence: Evidence, slicing: Slicing | None) -> PredictedLatency | None:
        """Return the predicted latency of the smaller network; None for other budgets."""
        if slicing is None or not isinstance(self.cost, LatencyTable):
            return None
        smaller = {name: tuple(weight.shape) for name, weight in slicing.take(evidence.weights).items()}
        conditions = LatencyResult.read(context.inputs["latency"]).conditions
        seconds = (self.cost(smaller) / 1e9, self.total / 1e9, self.keep / 1e9)
        return PredictedLatency(*seconds, conditions)


def make_masks(
    context: Context,
    method: Mapping[str, Any],
    *,
    seed: int,
    sparsity: float,
    budget: Any,
    training: Mapping[str, Any] | None,
    corrupt: Callable[[Images], Images] = lambda images: images,
    drive: Callable[[Callable[[Pruning], Tensors], Pruning], Tensors] = lambda schedule, pruning: schedule(pruning),
    lowest: bool = False,
    learned: tuple[Mapping[str, Any], Tensors] | None = None,
) -> tuple[Evidence, Made]:
    """Return the evidence and the masks of a method; a check may `corrupt` the images or `drive` the schedule itself.

    With `lowest` a repair restores the lowest scores in place of the highest. The scorer is `learned`, the content of
    its `scorer.json` and its state, or else input `scorer`.

    Raises StepError if no such mask exists.
    """
    recipe = Recipe(**(training or {}))
    evidence = gather_evidence(context, seed=seed, recipe=recipe, corrupt=corrupt)
    if sentence := left_out(evidence.model):
        context.note(sentence)
    if learned is None and "scorer" in context.inputs:
        result = ScorerResult.read(context.inputs["scorer"])
        learned = result.json(), result.state
    if learned is not None:
        device = next(iter(evidence.weights.values())).device
        evidence = replace(evidence, scorer=make_scorer(*learned, recipe, device))
    if rounds := context.roles("round"):
        results = map(RoundResult.read, rounds.values())
        ranked = ((masks_of(evidence.weights, result), result.scores) for result in results)
        evidence = replace(evidence, survival=survival_order(ranked))
    quotas = None
    if "order" in context.inputs:
        evidence, quotas = in_given_order(context.inputs["order"], evidence, sparsity)
    pruning, unit, limit = pruning_of(context, method, evidence, recipe, sparsity, budget)
    if quotas is not None:
        pruning = replace(pruning, allocate=lambda scores, layers, keep: dict(quotas))
    state: Tensors = {}
    if keeps_weights(method):
        pruning = replace(pruning, keep_weights=state.update)
    with explaining(method, limit):
        chosen = drive(choose(schedules, method["schedule"]), pruning)
        masks = pruning.spread(chosen)
        if "repair" in method:
            costs = {layer.name: 1 if budget is None else layer.positions for layer in evidence.layers}
            score = _negated(pruning.score) if lowest else pruning.score
            masks = choose(repairs, method["repair"])(evidence, masks, score, costs)
        slicing = unit.slicing(chosen)
        return evidence, Made(masks, unit.counts(chosen), slicing, limit.predict(context, evidence, slicing), state)


def pruning_of(
    context: Context, method: Mapping[str, Any], evidence: Evidence, recipe: Recipe, sparsity: float, budget: Any
) -> tuple[Pruning, Unit, Limit]:
    """Return a method's choices for a network within a budget, its unit, and the limit. Raises StepError."""
    limit = Limit.of(context, evidence, sparsity, budget)
    try:
        unit = choose(units, method.get("unit", _SINGLE))(evidence)
        keep = unit.amount(limit.keep, limit.cost)
    except ValueError as error:
        raise StepError(f"unit `{method['unit']['name']}`: {error}") from error
    pruning = Pruning(
        evidence,
        limit.total,
        keep,
        score=with_signal(choose(criteria, method["criterion"])),
        allocate=unit.limited(choose(allocations, method["allocation"]), limit.cost),
        select=unit.filled(choose(selections, method["selection"])),
        observe=context.observe,
        recipe=recipe,
        blind=selections[method["selection"]["name"]].facts.get("blind", False),
        unit=unit if "unit" in method else None,
    )
    return pruning, unit, limit


@contextmanager
def explaining(method: Mapping[str, Any], limit: Limit) -> Iterator[None]:
    """Raise StepError, or Diverged, for a ValueError inside: masks that do not exist, or training that diverges."""
    try:
        yield
    except ValueError as error:
        hint = getattr(error, "hint", None)
        kind = Diverged if isinstance(error, Divergence) else StepError
        raise kind(f"criterion `{method['criterion']['name']}` at {limit.where}: {error}", hint) from error


def _negated(score: Callable[[Evidence], Tensors]) -> Callable[[Evidence], Tensors]:
    return lambda evidence: {name: -values for name, values in score(evidence).items()}


def shuffle_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of permuting masks and diagnosing them."""
    data = facts.training_bytes
    return Workload(
        {},
        {"step": 1, "build": 1, "bytes": data + facts.state_bytes, "flow": 3},
        (
            {"data": 3 * data, "bytes": facts.state_bytes},
            {"data": data, "bytes": 4 * facts.state_bytes + 32 * facts.network.total},
        ),
        facts.network.total + LINE + 240 * len(facts.network.layers),
    )


@operations.register(result=MaskResult, cost=shuffle_cost, spec_paths={"seed": "seeds"})
def shuffle(context: Context, *, seed: int) -> None:
    """Permute the masks of input `mask` within each layer: the same number at other positions."""
    evidence = gather_evidence(context, seed=seed)
    made = shuffled(context, evidence, read_masks(context.inputs["mask"]), generator("shuffle", seed))
    write_masks(context, evidence, made)


def shuffled(context: Context, evidence: Evidence, result: MaskResult, random: torch.Generator) -> Made:
    """Return masks with as many weights in each layer, or block, at other positions, or as many channels in a group."""
    if "unit" not in (method := result.asked.get("method", {})):
        return Made(permute(on_device(context, masks_of(evidence.weights, result)), random))
    unit = choose(units, method["unit"])(evidence)
    if not isinstance(result, ChannelMaskResult):
        at_random = unit.filled(selections["shuffle"].function)
        return Made(at_random(evidence.weights, result.kept, replace(evidence, generator=random)))
    chosen = {
        layer.name: torch.zeros(layer.shape, dtype=torch.bool).index_fill(
            0, torch.tensor(result.groups[layer.name]), True
        )
        for layer in unit.layers
    }
    chosen = permute(chosen, random)
    return Made(unit.spread(chosen), unit.counts(chosen), unit.slicing(chosen))


def makes_smaller(method: Mapping[str, Any]) -> bool:
    """Return whether a method's masks leave a smaller network, by its keyed choices."""
    return bool(units[method.get("unit", _SINGLE)["name"]].facts.get("tensors_smaller"))


def takes_training(method: Mapping[str, Any], warm_up: int) -> bool:
    """Return whether making a method's masks takes training steps, `warm_up` of them before its scorer predicts."""
    needs_scorer = criteria[method["criterion"]["name"]].facts.get("needs_scorer")
    return bool(training_steps(method) or (needs_scorer and warm_up))
