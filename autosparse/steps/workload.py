"""The workload of a step: images trained, gradients, passes and bytes, counted before the machine is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.core.features import columns_of, needs_of
from autosparse.datasets import Source
from autosparse.models.facts import NetworkFacts
from autosparse.store import digest

SAMPLE_BATCH = 256  # images of one gradient pass
LINE = 600  # bytes of a small JSON file
UNTRAINED: Mapping[str, Any] = {"batch": 0, "crop": 0, "precision": "float32"}


@dataclass(frozen=True)
class Workload:
    """The work of one step.

    `about` identifies the kind of work among steps of one operation; for equal kinds, seconds are proportional to
    `amount`. `units` counts the same work in units that the machine is probed for (see measure/probe.py). `memory` has
    the contents of memory in each phase of a step: `bytes`, bytes of `data` that may stay on disk instead, and images
    that pass through the network. `batch`, `precision` and `kernels` are those of training.
    """

    about: Mapping[str, Any]
    units: Mapping[str, float]
    memory: tuple[Mapping[str, float], ...]
    disk_bytes: int
    amount: float = 1.0
    depends_on_network: bool = True
    runs_network: bool = True
    """true if the step builds and runs the network, at rates probed for it"""
    batch: int = 0
    precision: str = "float32"
    kernels: str = "dense"


@dataclass(frozen=True)
class Facts:
    """The facts that a workload depends on in addition to the step's options."""

    roles: tuple[str, ...]
    """roles of the step's inputs"""
    network: NetworkFacts
    source: Source
    groups: tuple[str, ...] = ()
    """feature groups that the plan's scorer uses"""
    updates: int = 1
    """updates of the plan's scorer when it learns; 1 for one that learns in closed form"""
    warm_up: int = 0
    """training steps before the plan's scorer describes a network"""
    kernels: str = "dense"
    """kernels of the step's training"""

    def count(self, role: str) -> int:
        """Return the number of inputs of a role, such as `label` for `label.100` and `label.101`."""
        return sum(name.startswith(role) for name in self.roles)

    def training_units(self, images: float) -> dict[str, float]:
        """Return the units of training on this number of images."""
        if self.kernels == "compiled":
            return {"compiled": images, "compiling": 1}
        return {"sparse" if self.kernels == "sparse" else "train": images}

    def with_border(self, crop: int) -> float:
        """Return the bytes of the training images and their padded copy, from which random crops are cut."""
        height, width = self.source.shape[1:]
        border = (height + 2 * crop) * (width + 2 * crop) / (height * width) if crop else 0.0
        return (1 + border) * self.training_bytes

    def batch_of(self, recipe: Mapping[str, Any]) -> int:
        """Return the images of one training step."""
        return int(min(recipe["batch"], self.source.train_images))

    @property
    def columns(self) -> int:
        return len(columns_of(self.groups))

    @property
    def feature_flows(self) -> int:
        """The passes of ones for a feature table."""
        return len(needs_of(self.groups) & {"flow", "joins"})

    @property
    def feature_bytes(self) -> int:
        """The bytes held while the largest layer is described."""
        return 3 * 4 * self.columns * max(layer.size for layer in self.network.layers)

    @property
    def image_bytes(self) -> int:
        return math.prod(self.source.shape)

    @property
    def training_bytes(self) -> int:
        return self.source.train_images * self.image_bytes

    @property
    def state_bytes(self) -> int:
        return 4 * (self.network.parameters + self.network.buffers)

    @property
    def images(self) -> int:
        return self.source.train_images + self.source.validation_images + self.source.test_images


def sum_units(parts: Sequence[Workload]) -> dict[str, float]:
    """Add up the units of several workloads."""
    return {unit: sum(part.units.get(unit, 0) for part in parts) for part in parts for unit in part.units}


def training_workload(options: Mapping[str, Any], facts: Facts) -> Workload:
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


def short_training(facts: Facts, recipe: Mapping[str, Any], held: float) -> tuple[Mapping[str, float], ...]:
    """Return the memory of training for some steps next to `held` bytes; no phase without a recipe's batch."""
    if not recipe["batch"]:
        return ()
    held_bytes = held + 12 * facts.state_bytes
    return ({"data": facts.with_border(recipe["crop"]), "bytes": held_bytes, "train": facts.batch_of(recipe)},)


def kind_of(operation: str, version: int, facts: Facts, work: Workload) -> str:
    """Return the digest of the kind of work: the same for steps whose seconds and peaks can be compared."""
    return digest([operation, version, facts.network.identity if work.depends_on_network else "", dict(work.about)])
