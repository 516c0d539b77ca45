"""Schedules: the rounds in which a network gets its masks, and the training between them.

A schedule is `(pruning) -> masks of units`: it drives the other choices. After the first round the criterion scores the
network that the last round left. The price counts `rounds` scorings and the training `steps` of each. Facts:
`step_cost`, the cost of one step by the options; `learns`, if the criterion's scores are only the starting point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le

from autosparse.core.allocation import Counts, Impossible
from autosparse.core.evidence import Evidence
from autosparse.core.selection import draws, selections
from autosparse.core.torch_compat.random_state import seed_of
from autosparse.core.training.mask_search import Relaxation, learn_scores
from autosparse.core.training.masked_steps import learn_briefly
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import Unit
from autosparse.core.weights import Layer, Tensors, full_masks, kept
from autosparse.core.zero_scores import NoSignal, is_by_position, lowest_kept, without_ties
from autosparse.lazy_torch import torch
from autosparse.registry import Added, Range, Registry

Score: TypeAlias = Callable[[Evidence], Tensors]
Allocate: TypeAlias = Callable[[Tensors, Sequence[Layer], int], Counts]
Select: TypeAlias = Callable[[Tensors, Counts, Evidence], Tensors]


@dataclass(frozen=True)
class Pruning:
    """The inputs of a schedule: a network under full masks, the amount to keep, and the other choices.

    `total` and `keep` are in the currency of `allocate`, weights or multiply-adds. Scores, counts and masks are those
    of `unit`, single weights or parts of the network that leave it as wholes. `recipe` trains the network in schedules
    that train. With `blind` the selection ignores scores: learning them for fixed quotas would be wasted.
    `keep_weights` receives the trained state of a schedule that does not rewind it.
    """

    evidence: Evidence
    total: int
    keep: int
    score: Score
    allocate: Allocate
    select: Select
    observe: Callable[[int, int], None] = lambda done, total: None
    recipe: Recipe = Recipe()  # noqa: RUF009 -- frozen
    blind: bool = False
    unit: Unit | None = None
    keep_weights: Callable[[Tensors], None] = lambda state: None

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that quotas count in: the network's, or those of its units."""
        return self.evidence.layers if self.unit is None else self.unit.layers

    def gather(self, scores: Tensors) -> Tensors:
        """Return the scores of units, of those of weights."""
        return scores if self.unit is None else self.unit.gather(scores)

    def spread(self, chosen: Tensors) -> Tensors:
        """Return the masks of weights, of those of units."""
        return chosen if self.unit is None else self.unit.spread(chosen)

    def fill(self, scores: Tensors, quotas: Counts, evidence: Evidence) -> Tensors:
        """Return the units that the selection keeps within the quotas."""
        return self.select(scores, quotas, replace(evidence, layers=tuple(self.layers)))

    def in_rounds(self, counts: Sequence[int], *, regrow: bool = False, steps: int = 0, rewind: bool = True) -> Tensors:
        """Return masks, name -> bool tensor, with exactly `counts[-1]` ones, reached in `len(counts)` rounds.

        Every round scores the network under the last masks. Pruned weights stay pruned, or with `regrow` compete,
        unless every score is zero. An early round keeps at most the weights that the allocation can place. `steps` of
        training precede each scoring: from initialization, or without `rewind` from the end of the last round. Raises
        ValueError as `scored` does, and when training diverges.
        """
        evidence, batches = self.evidence, None
        masks: Tensors = {}
        for number, keep in enumerate(counts, start=1):
            if steps:
                start = replace(evidence, trained={}) if rewind else evidence
                if batches is None or rewind:
                    batches = evidence.training_batches()
                observe = partial(self._observe_round, (number - 1) * steps, steps * len(counts))
                evidence = learn_briefly(start, batches, self.recipe, steps, observe)
            scores = self.gather(self.scored(evidence, allow_zero=number > 1))
            masks = masks or full_masks(scores)
            present = masks
            if not (regrow and any(bool(values.any()) for values in scores.values())):
                scores = {name: values.masked_fill(~masks[name], -math.inf) for name, values in scores.items()}
            masks = self.chosen(scores, keep, present, evidence, last=number == len(counts))
            if number < len(counts):
                evidence = evidence.masked(self.spread(masks))
            if not steps:
                self.observe(number, len(counts))
        return masks

    def chosen(self, scores: Tensors, keep: int, present: Tensors, evidence: Evidence, *, last: bool) -> Tensors:
        """Return masks with `keep` of the units that are `present`, -inf being the score of others.

        A round that is not the `last` keeps at most what the allocation can place. Ties among zeros are drawn.
        """
        # Ties would keep the first weights: zeros, which may fill whole layers, are drawn instead.
        masks = self.fill(scores, self._quotas(scores, keep, last=last), evidence)
        if not is_by_position(masks, scores) or draws(self.select, evidence):
            return masks
        zeros = sum(int(((values == 0) & present[name]).count_nonzero()) for name, values in scores.items())
        total = sum(kept(present).values())
        if last:
            equal = f"{zeros / total:.0%} of the scores are exactly zero" if zeros else "many scores are equal"
            evidence.note(f"{equal}, and some of those weights are kept: they are drawn at random")
        scores = without_ties(scores, {0.0, lowest_kept(masks, scores)}, _of_ties(evidence))
        return self.fill(scores, self._quotas(scores, keep, last=last), evidence)

    def _quotas(self, scores: Tensors, keep: int, *, last: bool) -> Counts:
        try:
            return self.allocate(scores, self.layers, keep)
        except Impossible as error:
            if last or keep < error.most:
                raise
            return self.allocate(scores, self.layers, error.most)

    def scored(self, evidence: Evidence, *, allow_zero: bool = False) -> Tensors:
        """Return the criterion's scores of a network, detached.

        Raises ValueError when a score is not finite, naming the layer, and when every score is zero, unless that is
        allowed: zeros would pass for a choice that nobody made.
        """
        scores = {name: values.detach() for name, values in self.score(evidence).items()}
        for name, values in scores.items():
            if not bool(values.isfinite().all()):
                raise ValueError(f"{int((~values.isfinite()).sum())} scores of layer {name} are not finite numbers")
        if not allow_zero and not any(bool(values.any()) for values in scores.values()):
            raise NoSignal("every weight has score 0")
        return scores

    def _observe_round(self, before: int, total: int, done: int) -> None:
        self.observe(before + done, total)


def _of_ties(evidence: Evidence) -> torch.Generator:
    # Separate from the evidence's generator: ties do not change its random numbers.
    return torch.Generator("cpu").manual_seed(seed_of("ties", evidence.generator.initial_seed()))


_EVERY = 8  # steps between two allocations of free quotas

schedules: Registry[Callable[..., Tensors]] = Registry("schedule", "schedules")


@schedules.register
def one_shot(pruning: Pruning) -> Tensors:
    """Score once, prune once.

    Args:
        pruning: Network, the number of weights to keep, and the other three choices.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    Raises:
        ValueError: If scores are not finite or all zero.
    """
    return pruning.in_rounds([pruning.keep])


Regrow = Annotated[
    bool,
    "allow pruned weights to regrow: all weights are scored by their initial values in the pruned network (de Jorge "
    "et al. 2021)",
]
Rounds = Annotated[int, Ge(1)]
Steps = Annotated[
    int,
    Ge(0),
    "number of training steps before each scoring, with the recipe's batches, optimizer and one-cycle learning rate",
]
Rewind = Annotated[bool, "rewind to initialization before every round, instead of continuing the training"]


@schedules.register(source="Tanaka et al. 2020, algorithm 1; de Jorge et al. 2021")
def exponential(
    pruning: Pruning, *, rounds: Rounds = 100, regrow: Regrow = False, steps: Steps = 0, rewind: Rewind = True
) -> Tensors:
    """Keep the same share of the remaining weights in every round (SynFlow's schedule: 100 rounds).

    Args:
        pruning: Network, the number of weights to keep, and the other three choices.
        rounds: Number of rounds of scoring and pruning.
        regrow: Let pruned weights compete again in every round.
        steps: Number of training steps before each scoring.
        rewind: Train from initialization in every round, not from the end of the last round.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    Raises:
        ValueError: If scores are not finite or all zero, or training diverges.

    References:
        Tanaka et al. 2020, arXiv 2006.05467, algorithm 1.
        With regrowth: de Jorge et al. 2021, arXiv 2006.09081 (FORCE).
    """
    counts = exponential_counts(pruning.total, pruning.keep, rounds)
    return pruning.in_rounds(counts, regrow=regrow, steps=steps, rewind=rewind)


@schedules.register(source="de Jorge et al. 2021")
def linear(
    pruning: Pruning, *, rounds: Rounds = 10, regrow: Regrow = False, steps: Steps = 0, rewind: Rewind = True
) -> Tensors:
    """Prune the same number of weights in every round.

    Args:
        pruning: Network, the number of weights to keep, and the other three choices.
        rounds: Number of rounds of scoring and pruning.
        regrow: Let pruned weights compete again in every round.
        steps: Number of training steps before each scoring.
        rewind: Train from initialization in every round, not from the end of the last round.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    Raises:
        ValueError: If scores are not finite or all zero, or training diverges.

    References:
        de Jorge et al. 2021, arXiv 2006.09081.
    """
    counts = linear_counts(pruning.total, pruning.keep, rounds)
    return pruning.in_rounds(counts, regrow=regrow, steps=steps, rewind=rewind)


def _step_cost(options: Mapping[str, Any]) -> float:
    # Measured on a small VGG: masks once per step, two optimizers once per microbatch.
    return 1.07 + 0.03 * int(options.get("parts", 1))


@schedules.register(step_cost=_step_cost, learns=True, source="Ramanujan et al. 2020, eq. 5; Maddison et al. 2017")
def search(
    pruning: Pruning,
    *,
    steps: Annotated[int, Ge(1), "number of training steps, after which everything but the masks is rewound"] = 400,
    score_lr: Annotated[float, Gt(0), Range(0.001, 0.1, log=True), "learning rate of Adam on the scores"] = 0.01,
    lr: Annotated[
        Annotated[float, Gt(0)] | Literal["recipe"],
        "peak learning rate of the weights, one cycle; recipe: that of `training`",
    ] = "recipe",
    train_weights: Annotated[bool, "train the weights with the scores; false freezes them"] = True,
    anneal: Annotated[
        float, Ge(0), Le(1), "fraction of the steps in which the kept weights fall from all to the quotas"
    ] = 0.7,
    quotas: Annotated[
        Literal["fixed", "free"],
        "allocation: fixed (once, by the criterion's scores) or free (repeated, by the learned scores)",
    ] = "fixed",
    relaxation: Annotated[Relaxation, "gradient estimator of the mask"] = "straight_through",
    sharpness: Annotated[float, Gt(0), "slope of a concrete mask in the score"] = 10.0,
    parts: Annotated[
        int,
        Ge(1),
        "number of microbatches per batch, one update each: more updates for the same images (on a GPU up to as many "
        "times slower)",
    ] = 4,
    rewind: Annotated[
        bool, Added(), "rewind everything but the masks; false: training continues from the weights of the search"
    ] = True,
    shared: Annotated[
        bool,
        Added(),
        "one search for all budgets of a spec: its masks are nested, and each budget has as many of the steps",
    ] = False,
) -> Tensors:
    """Learn masks with the weights: scores train through the masks they make, then all else is rewound.

    The scores begin as the criterion's ranks within each layer. Edge-popup (Ramanujan et al. 2020) is
    `train_weights: false` with `anneal: 0`. With `relaxation: concrete` masks are drawn as in Concrete Ticket Search
    (Arora & Teuscher 2025), though quotas replace its gradient balancing. `quotas: free` lets an allocation that uses
    scores, such as `global`, move weights between layers.

    Args:
        pruning: Network, the number of weights to keep, and the other three choices.
        steps: Number of training steps; all but the masks is rewound after them.
        score_lr: Learning rate of Adam on the scores.
        lr: Peak learning rate of the weights, which follow one cycle; `recipe` takes the training's.
        train_weights: Train the weights together with the scores; otherwise they are frozen.
        anneal: Share of the steps in which the kept fraction falls from 1 to the quotas, in [0, 1].
        quotas: `fixed` by the criterion's scores, or `free`: allocated repeatedly by the learned scores.
        relaxation: Gradient of a score through its mask: `straight_through` or `concrete`.
        sharpness: Slope of a concrete mask over its score.
        parts: Number of microbatches, each with an update of scores and weights.
        rewind: Rewind all but the masks; otherwise the trained state goes to `pruning.keep_weights`.
        shared: The run of a spec makes the masks of all budgets by `search_in_stages`; one budget is the same search.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    Raises:
        ValueError: If scores are not finite or all zero, or training diverges.

    References:
        Ramanujan et al. 2020, arXiv 1911.13299, eq. 5 (edge-popup); Maddison et al. 2017, arXiv 1611.00712 (concrete);
        Arora & Teuscher 2025, arXiv 2512.07142 (Concrete Ticket Search).
        Pruned share: Zhu & Gupta 2017, arXiv 1710.01878, eq. 1.
    """
    if pruning.blind and quotas == "fixed":
        return pruning.in_rounds([pruning.keep])
    asked = Search(
        steps=steps, score_lr=score_lr, lr=lr, train_weights=train_weights, anneal=anneal, quotas=quotas,
        relaxation=relaxation, sharpness=sharpness, parts=parts, rewind=rewind, shared=shared,
    )  # fmt: skip
    [(masks, _)] = search_in_stages(pruning, [pruning.keep], asked)
    return masks


@dataclass(frozen=True)
class Search:
    """Options of `search`."""

    steps: int
    score_lr: float
    lr: float | Literal["recipe"]
    train_weights: bool
    anneal: float
    quotas: Literal["fixed", "free"]
    relaxation: Relaxation
    sharpness: float
    parts: int
    rewind: bool = True
    shared: bool = False


def search_in_stages(pruning: Pruning, keeps: Sequence[int], search: Search) -> list[tuple[Tensors, Tensors]]:
    """Learn masks for several budgets along one search.

    Every budget has the same number of steps: within them the kept weights fall to its quotas, and stay there for the
    last `1 - anneal` of them. Masks are nested: what a stage leaves out stays out.

    Args:
        pruning: Network and the other three choices; its `keep` is not read.
        keeps: Numbers to keep, in the currency of `pruning.allocate`, each at most the one before.
        search: Options of the search.

    Returns:
        For every budget its masks, and the scores that they were chosen by; -inf marks what an earlier stage left out.

    Raises:
        ValueError: As `search` does.
    """
    evidence, total = pruning.evidence, pruning.total
    start = pruning.gather(pruning.scored(evidence))
    if any(bool(2 * (values == 0).count_nonzero() > values.numel()) for values in start.values()):
        start = without_ties(start, {0.0}, _of_ties(evidence))  # ranks would go by position
    layers = pruning.layers
    fixed = [{layer.name: layer.size for layer in layers}]
    exact = total == sum(fixed[0].values())
    for keep in keeps:
        fixed.append(_nested(pruning.allocate(start, layers, keep), fixed[-1], exact=exact))
    amounts, stages = [total, *keeps], len(keeps)
    recipe = pruning.recipe if search.lr == "recipe" else replace(pruning.recipe, lr=search.lr)
    is_free = search.quotas == "free"
    made: list[tuple[Tensors, Tensors]] = []

    def chosen(scores: Tensors, stage: int) -> Tensors:
        given = pruning.allocate(scores, layers, keeps[stage]) if is_free else fixed[stage + 1]
        return pruning.fill(scores, given, evidence)

    def counts(progress: float, scores: Tensors) -> Counts:
        stage = min(int(progress * stages), stages - 1)
        within = progress * stages - stage
        above = (1 - within / search.anneal) ** 3 if within < search.anneal else 0.0  # Zhu & Gupta 2017, eq. 1
        if is_free:
            return pruning.allocate(scores, layers, keeps[stage] + round(above * (amounts[stage] - keeps[stage])))
        before, after = fixed[stage], fixed[stage + 1]
        return {name: after[name] + round(above * (before[name] - after[name])) for name in after}

    def visit(done: int, scores: Tensors) -> None:
        while len(made) < stages - 1 and done * stages >= (len(made) + 1) * search.steps:
            masks = chosen(scores, len(made))
            made.append((masks, {name: values.clone() for name, values in scores.items()}))
            for name, values in scores.items():
                values.masked_fill_(~masks[name], -math.inf)

    scores = learn_scores(
        evidence, start, counts, recipe, steps=search.steps, every=_EVERY if is_free else 1, score_lr=search.score_lr,
        parts=search.parts, relaxation=search.relaxation, sharpness=search.sharpness,
        train_weights=search.train_weights, observe=pruning.observe, unit=pruning.unit,
        keep_weights=(lambda state: None) if search.rewind else pruning.keep_weights, visit=visit,
    )  # fmt: skip
    return [*made, (chosen(scores, stages - 1), scores)]


def _nested(quotas: Counts, before: Counts, *, exact: bool) -> Counts:
    # Quotas are rounded for every budget by itself: one more than before moves to the layer with most to spare.
    made = {name: min(count, before[name]) for name, count in quotas.items()}
    for _ in range(exact * (sum(quotas.values()) - sum(made.values()))):
        made[max(made, key=lambda name: before[name] - made[name])] += 1
    return made


def keeps_weights(method: Mapping[str, Any]) -> bool:
    """Return whether training continues from the weights that made a method's masks, by its keyed choices."""
    return method["schedule"]["options"].get("rewind") is False and training_steps(method) > 0 and _learns(method)


def _learns(method: Mapping[str, Any]) -> bool:
    return bool(schedules[method["schedule"]["name"]].facts.get("learns"))


def training_steps(method: Mapping[str, Any]) -> int:
    """Return the number of training steps of a method's keyed choices: 0 if it learns nothing that it uses."""
    options = method["schedule"]["options"]
    if options.get("quotas") == "fixed" and selections[method["selection"]["name"]].facts.get("blind"):
        return 0
    return int(options.get("rounds", 1) * options.get("steps", 0))


def exponential_counts(total: int, keep: int, rounds: int) -> list[int]:
    """Return the counts left after each round when every round keeps the same share."""
    return [round(total * (keep / total) ** (number / rounds)) for number in range(1, rounds + 1)]


def linear_counts(total: int, keep: int, rounds: int) -> list[int]:
    """Return the counts left after each round when every round prunes the same number."""
    return [total - round((total - keep) * number / rounds) for number in range(1, rounds + 1)]
