"""train, evaluate: the shared recipe on a masked or the dense network, and its test accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autosparse.backends import EVALUATION_BATCH
from autosparse.core.allocation import macs
from autosparse.core.irp import rewind
from autosparse.core.training.loop import Recipe, accuracy
from autosparse.core.training.loop import train as train_network
from autosparse.core.weights import describe_layers, state_of, total_of
from autosparse.errors import Diverged
from autosparse.lazy_torch import torch
from autosparse.steps._base import operations
from autosparse.steps.context import Work, build_network, generator, load_network
from autosparse.steps.workload import LINE, Facts, Workload, costs


@operations.register(version=1, by_team=True, spec_paths={"seed": "seeds"})
def train(work: Work, *, training: dict[str, Any], seed: int) -> None:
    """Train from input `init` under input `mask`, or dense without it. The batches depend on the seed alone."""
    model = load_network(work)
    images = work.images("train")
    losses = train_network(
        model,
        images,
        Recipe(**training),
        generator("train", seed),
        masks=work.masks("mask"),
        observe=work.observe,
        team=work.team,
    )
    broken = [name for name, tensor in state_of(model).items() if not tensor.isfinite().all()]
    if broken or not all(map(math.isfinite, losses)):
        raise Diverged(f"training diverged: {broken[0] if broken else 'its loss'} is not finite", "lower `training.lr`")
    work.output.write_tensors("state", state_of(model))
    work.output.write_json("result", {"losses": losses})


@operations.register(version=1, tells="test_accuracy", spec_paths={"precision": "training.precision"})
def evaluate(work: Work, *, precision: str) -> None:
    """Accuracies after the last epoch, in percent, and the weights and multiply-adds that are left."""
    model = rewind(build_network(work), work.inputs["train"].tensors("state"))
    splits = {name: work.images(name) for name in ("validation", "test")}
    layers = describe_layers(model, torch.zeros((1, *splits["test"].input_shape), device=work.device))
    batch = work.place.evaluation_batch
    total = sum(layer.size for layer in layers)
    dense = {layer.name: layer.size for layer in layers}
    about = work.inputs["mask"].json("result") if "mask" in work.inputs else {"kept": dense, "effective": dense}
    # Masks made by earlier releases do not tell of nodes and paths.
    known = [part for part in ("effective", "nodes", "channels", "paths_through") if part in about]
    work.output.write_json(
        "result",
        {
            **{f"{name}_accuracy": accuracy(model, images, precision, batch=batch) for name, images in splits.items()},
            "total": total,
            "kept": sum(about["kept"].values()),
            **({"effective": sum(about["effective"].values())} if "effective" in about else {}),
            "macs": macs(layers, about["kept"]),
            "dense_macs": macs(layers),
            **({"effective_macs": macs(layers, about["effective"])} if "effective" in about else {}),
            **{part: sum(about[part].values()) for part in ("nodes", "channels") if part in about},
            **{part: about[part] for part in ("paths", "findings") if part in about},
            "layers": [
                {
                    "name": layer.name,
                    "size": layer.size,
                    "kept": about["kept"][layer.name],
                    "macs": layer.positions * about["kept"][layer.name],
                    "dense_macs": layer.positions * layer.size,
                    **{part: about[part][layer.name] for part in known},
                }
                for layer in layers
            ],
            "parameters": total_of(dict(model.named_parameters())),
        },
    )


@costs.register(name="train")
def train_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one training by a recipe, from step `rewind_to` on."""
    recipe = options["training"]
    batch = facts.batch_of(recipe)
    images = recipe["epochs"] * facts.source.train_images - options.get("rewind_to", 0) * batch
    data, parameters = facts.training_bytes, 7 * 4 * facts.network.parameters
    about = {name: value for name, value in recipe.items() if name not in ("epochs", "lr", "weight_decay", "momentum")}
    about |= {name: options[name] for name in ("rewind_to",) if name in options}
    about |= {"kernels": facts.kernels} if "kernels" in recipe else {}
    about |= {"images": images} if facts.kernels == "compiled" else {}  # compiling takes as long for few as for many
    return Workload(
        {"shape": list(facts.source.shape), **about},
        {"step": 1, "build": 1, **facts.training_units(images), "bytes": data + 2 * facts.state_bytes},
        (
            {"data": facts.with_border(recipe["crop"]), "bytes": parameters, "train": batch},
            {"data": 3 * data, "bytes": 2 * facts.state_bytes},
        ),
        facts.state_bytes + LINE,
        float(images),
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
    )


@costs.register(name="evaluate")
def evaluate_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one forward pass over the validation and test images."""
    images = facts.source.validation_images + facts.source.test_images
    data = images * facts.image_bytes
    return Workload(
        {"images": images, "precision": options["precision"]},
        {"step": 1, "build": 1, "forward": images, "bytes": data + facts.state_bytes},
        (
            {"data": 3 * data, "bytes": 2 * facts.state_bytes},
            {"data": data, "bytes": 2 * facts.state_bytes, "forward": min(images, EVALUATION_BATCH)},
        ),
        2 * LINE + 260 * len(facts.network.layers),
        precision=options["precision"],
    )
