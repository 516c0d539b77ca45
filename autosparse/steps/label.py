"""label: the number of rounds that each weight survived, and examples for scorers to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autosparse.core.evidence import Evidence
from autosparse.core.features import columns_of, describe
from autosparse.core.irp import round_by_round, rounds_that_learned, rounds_to_describe, survival
from autosparse.core.training.masked_steps import Divergence, warmed_up
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, total_of
from autosparse.errors import Diverged, StepError
from autosparse.lazy_torch import torch
from autosparse.steps._base import Content, Context, Count, Positive, StepResult, finite, operations
from autosparse.steps.context import gather_evidence, generator, images_of, masks_of, not_finite
from autosparse.steps.irp import RoundResult
from autosparse.steps.workload import LINE, SAMPLE_BATCH, UNTRAINED, Facts, Workload, short_training

IMAGES, EXAMPLES, ROUNDS = 512, 20_000, 8
"""training images for features, examples of a layer, and rounds that progressive scorers learn from"""


@dataclass(frozen=True)
class DescribedRound:
    """A round at which the network is described, and the weights of each layer at its start."""

    number: Positive
    left: list[Count]


@dataclass(frozen=True)
class LabelResult(StepResult):
    """Labels of every weight, and examples: features, in `columns`, and survival of some weights of each layer."""

    columns: list[str]
    layers: list[str]
    survivors: list[Count]
    """weights by the number of rounds that they survived, from none to all that were used"""
    rounds_used: Count
    rounds_made: Positive
    rounds: list[DescribedRound] = field(default_factory=list)
    """empty for a network described at initialization only"""

    def check(self) -> None:
        """Compare counts with each other."""
        if "features" in self.asked:
            fits = tuple(self.columns) == columns_of(self.asked["features"])
            self.require(fits, "result.json: `columns` are not those of the features")
        used = self.rounds_used or self.rounds_made
        fits = used <= self.rounds_made and len(self.survivors) == used + 1 and 0 < sum(self.survivors)
        self.require(fits, f"result.json: `survivors` are not the weights after 0 to {used} rounds")
        for described in self.rounds:
            fits = len(described.left) == len(self.layers)
            self.require(fits, f"result.json: `rounds`: `left` of round {described.number} has not the layers")

    @Content
    def labels(self) -> Tensors:
        """Number of rounds that each weight survived."""
        labels = finite(self, "labels")
        fits = {*labels} == {*self.layers} and total_of(labels) == sum(self.survivors)
        self.require(fits, "labels.safetensors: not the layers and weights of result.json")
        flat = torch.cat([part.flatten() for part in labels.values()])
        used = len(self.survivors) - 1
        fits = 0 <= int(flat.min()) <= int(flat.max()) <= used and not flat.is_floating_point()
        fits = fits and flat.long().bincount(minlength=used + 1).tolist() == self.survivors
        self.require(fits, "labels.safetensors: not the survivors of result.json")
        return labels

    @Content
    def examples(self) -> dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor, int]]:
        """Round (0: initialization) and layer -> features, `[examples, columns]`, survival, and the layer's weights.

        Layers that a round leaves empty are left out.
        """
        tensors = finite(self, "examples")
        rounds = self.rounds or [DescribedRound(0, [self.labels[layer].numel() for layer in self.layers])]
        pairs = ((one.number, layer, left) for one in rounds for layer, left in zip(self.layers, one.left, strict=True))
        examples = {}
        for number, layer, left in pairs:
            if left:
                name = f"{number}|{layer}" if number else layer
                features, share = tensors.get(f"{name}|features"), tensors.get(f"{name}|share")
                if features is None or share is None or features.shape != (share.numel(), len(self.columns)):
                    raise self.artifact.malformed(f"examples.safetensors: `{name}` is not [examples, columns]")
                is_share = 0 < len(share) and bool(((share >= 0) & (share <= 1)).all())
                self.require(is_share, f"examples.safetensors: `{name}` has no shares within 0 and 1")
                examples[number, layer] = features, share, left
        return examples


def label_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of reading the masks of all rounds and describing the network once or at several rounds."""
    data, rounds = facts.training_bytes, facts.count("round")
    masks = rounds * facts.network.total
    about = {name: options[name] for name in ("progressive", "warm_up", "training") if name in options}
    times = min(rounds, about.get("progressive", 1))
    recipe = about.get("training", UNTRAINED)
    images = min(options["images"], facts.source.train_images)
    held = masks + 3 * facts.state_bytes
    return Workload(
        {"images": images, "rounds": len(facts.roles), **about},
        {
            "step": 1,
            "build": 1,
            "gradient": times * images,
            "flow": times * facts.feature_flows,
            "features": times * facts.network.total,
            "train": times * about.get("warm_up", 0) * facts.batch_of(recipe),
            "bytes": data + masks,
        },
        (
            {"data": 3 * data, "bytes": masks},
            {"data": data, "bytes": held, "gradient": min(images, SAMPLE_BATCH)},
            {"data": data, "bytes": held + facts.feature_bytes},
            *short_training(facts, recipe, masks),
        ),
        facts.network.total + example_bytes(facts, times) + LINE,
        batch=recipe["batch"],
        precision=recipe["precision"],
        counted=(facts.described(options["features"], images) + facts.trained(recipe, about.get("warm_up", 0))) * times,
    )


@operations.register(
    result=LabelResult,
    cost=label_cost,
    version=2,
    spec_paths={
        "seed": "irp.seeds",
        "features": "scorer.features_used",
        "progressive": "rounds described for scorers that learn from each",
        "warm_up": "scorer.warm_up",
        "round.*": "irp.rounds",
    },
)
def label(
    context: Context,
    *,
    images: int,
    examples: int,
    features: dict[str, int],
    seed: int,
    progressive: int = 0,
    warm_up: int = 0,
    training: dict[str, Any] | None = None,
) -> None:
    """Label the weights of one IRP, and describe up to `examples` weights of each layer by their features.

    Final rounds whose network learned nothing are left out, unless none did: their pruning carries no information
    about the weights.

    `features` maps the feature groups that scorers use to their versions, so that a changed group makes new examples.
    With `progressive` the network is described at that many rounds, evenly spread, which share the examples of a
    layer: weights left at a round, and their survival of it. A network is described `warm_up` steps into training
    under its masks, by the fields of the recipe in `training`.
    """
    made = [*map(RoundResult.read, context.roles("round").values())]
    used = rounds_that_learned([one.validation_accuracy for one in made], images_of(context, "validation").labels)
    recipe = Recipe(**(training or {}))
    evidence = gather_evidence(context, seed=seed, recipe=recipe)
    rounds = [masks_of(evidence.weights, one) for one in made[: used or None]]
    labels = survival(rounds)
    layers = [layer.name for layer in evidence.layers]
    share = {name: part.float() / len(rounds) for name, part in labels.items()}
    snapshots: Iterable[tuple[int, Evidence, Tensors]] = [(0, evidence, share)]
    if progressive:
        snapshots = round_by_round(evidence, rounds, progressive)
        examples //= len(rounds_to_describe(len(rounds), progressive))
    random = generator("examples", seed)
    kept: Tensors = {}
    described_rounds: list[DescribedRound] = []
    for number, network, target in snapshots:
        prefix = f"{number}|" if number else ""
        for described in describe(_warmed_up(network, recipe, warm_up), features, images):
            for name, values in described.values.items():
                present = network.masks[name].flatten().nonzero().squeeze(1).cpu()
                pick = present[torch.randperm(len(present), generator=random)[:examples]].sort().values
                kept[f"{prefix}{name}|features"] = values.detach().cpu()[pick]
                kept[f"{prefix}{name}|share"] = target[name].cpu().flatten()[pick].float()
        if number:
            left = [int(network.masks[name].sum()) for name in layers]
            described_rounds.append(DescribedRound(number, left))
    if broken := not_finite(kept):
        raise StepError(f"the features of the network are not finite: {broken}", "train it at a lower rate")
    bins = torch.cat([part.flatten() for part in labels.values()]).long().bincount(minlength=len(rounds) + 1)
    result = LabelResult([*described.columns], layers, bins.tolist(), used, len(made), described_rounds)
    result.write(context.output, labels=labels, examples=kept)


def _warmed_up(network: Evidence, recipe: Recipe, steps: int) -> Evidence:
    try:
        return warmed_up(network, recipe, steps)
    except ValueError as error:
        kind = Diverged if isinstance(error, Divergence) else StepError
        raise kind(f"warming up the network: {error}", "lower `irp.training.lr`") from error


def example_rows(facts: Facts, rounds: int) -> int:
    """Return the number of examples of a network that is described at this number of rounds."""
    return sum(min(EXAMPLES, rounds * layer.size) for layer in facts.network.layers)


def example_bytes(facts: Facts, rounds: int) -> int:
    """Return the bytes of the examples of a network that is described at this number of rounds."""
    return 4 * (facts.columns + 1) * example_rows(facts, rounds)
