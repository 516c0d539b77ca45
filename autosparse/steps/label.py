"""label: how many rounds each weight survived, and examples for scorers to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autosparse.core.evidence import Evidence
from autosparse.core.feature_extraction import describe
from autosparse.core.irp import round_by_round, rounds_that_learned, rounds_to_describe, survival
from autosparse.core.training.loop import Recipe
from autosparse.core.training.masked_steps import Divergence, warmed_up
from autosparse.core.weights import Tensors
from autosparse.errors import Diverged, StepError
from autosparse.lazy_torch import torch
from autosparse.steps._base import operations
from autosparse.steps.context import Work, gather_evidence, generator
from autosparse.steps.workload import LINE, SAMPLE_BATCH, UNTRAINED, Facts, Workload, costs, short_training

IMAGES, EXAMPLES, ROUNDS = 512, 20_000, 8
"""training images that weights are described on, examples a layer, and rounds that progressive scorers learn from"""


@operations.register(
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
    work: Work,
    *,
    images: int,
    examples: int,
    features: dict[str, int],
    seed: int,
    progressive: int = 0,
    warm_up: int = 0,
    training: dict[str, Any] | None = None,
) -> None:
    """Labels of one IRP and the features of up to `examples` weights of each layer.

    Rounds at the end in which the network learned nothing are left out, unless it never did: what they prune says
    nothing of its weights.

    `features` names the feature groups that scorers will look at, and their versions, so that a changed group makes new
    examples. With `progressive` the network is described as that many rounds found it, evenly spread, the examples of
    a layer being divided among them: what is left of it, and whether it survives the round. A network is described
    `warm_up` steps into training under its masks, by what of the recipe `training` holds.
    """
    made = work.roles("round").values()
    accuracies = [artifact.json("result")["validation_accuracy"] for artifact in made]
    used = rounds_that_learned(accuracies, work.images("validation").labels)
    rounds = [artifact.tensors("masks") for artifact in made][: used or None]
    labels = survival(rounds)
    recipe = Recipe(**(training or {}))
    evidence = gather_evidence(work, seed=seed, recipe=recipe)
    layers = [layer.name for layer in evidence.layers]
    share = {name: part.float() / len(rounds) for name, part in labels.items()}
    found: Iterable[tuple[int, Evidence, Tensors]] = [(0, evidence, share)]
    if progressive:
        found = round_by_round(evidence, rounds, progressive)
        examples //= len(rounds_to_describe(len(rounds), progressive))
    random = generator("examples", seed)
    kept: dict[str, torch.Tensor] = {}
    about: dict[str, Any] = {}
    for number, network, target in found:
        prefix = f"{number}|" if number else ""
        for described in describe(_warmed_up(network, recipe, warm_up), features, images):
            for name, values in described.values.items():
                present = network.masks[name].flatten().nonzero().squeeze(1).cpu()
                pick = present[torch.randperm(len(present), generator=random)[:examples]].sort().values
                kept[f"{prefix}{name}|features"] = values.detach().cpu()[pick]
                kept[f"{prefix}{name}|share"] = target[name].cpu().flatten()[pick].float()
        if number:
            left = [int(network.masks[name].sum()) for name in layers]
            about.setdefault("rounds", []).append({"number": number, "left": left})
    work.output.write_tensors("labels", labels)
    work.output.write_tensors("examples", kept)
    bins = torch.cat([part.flatten() for part in labels.values()]).long().bincount(minlength=len(rounds) + 1)
    about |= {"columns": list(described.columns), "layers": layers, "survivors": bins.tolist()}
    about |= {"rounds_used": used, "rounds_made": len(accuracies)}
    work.output.write_json("result", about)


def _warmed_up(network: Evidence, recipe: Recipe, steps: int) -> Evidence:
    try:
        return warmed_up(network, recipe, steps)
    except ValueError as error:
        kind = Diverged if isinstance(error, Divergence) else StepError
        raise kind(f"warming up the network: {error}", "lower `irp.training.lr`") from error


def example_bytes(facts: Facts, rounds: int) -> int:
    """Return the bytes of the examples of a network that is described at this number of rounds."""
    rows = sum(min(EXAMPLES, rounds * layer.size) for layer in facts.network.layers)
    return 4 * (facts.columns + 1) * rows


@costs.register(name="label")
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
    )
