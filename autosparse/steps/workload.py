"""The workload of a step: images trained, gradients, passes and bytes, counted before the machine is known.

Costs are compared by counted work, in units that no machine changes: training steps, images and multiply-adds.
The unit of multiply-adds is a forward pass of the dense network's prunable layers, whatever the kernels or masks. The
backward pass counts two of them, as each layer differentiates by its weights and by its inputs; the double backward
pass of a Hessian product counts six. Sorting, selection, diagnosis, input and output count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from autosparse.core.features import columns_of, needs_of
from autosparse.core.images import batch_sizes
from autosparse.core.training.recipe import Recipe, training_steps_of
from autosparse.datasets import Source
from autosparse.models.facts import NetworkFacts
from autosparse.store import digest

SAMPLE_BATCH = 256  # images of one gradient pass
LINE = 600  # bytes of a small JSON file
_COST_NOTHING = ("epochs", "lr", "weight_decay", "momentum", "rescale")
UNTRAINED: Mapping[str, Any] = {"batch": 0, "crop": 0, "precision": "float32"}

GRADIENT = 3
"""Forward passes that a gradient costs: one forward, and a backward pass of two."""

HESSIAN_PRODUCT = 9
"""Forward passes that a Hessian-vector product costs: a gradient, and its double backward pass of six."""


@dataclass(frozen=True)
class Counted:
    """Work of a step or a plan: training steps, images, and multiply-adds.

    An image counts once for each training step, gradient, Hessian product or evaluation that reads it.
    """

    steps: int = 0
    images: int = 0
    macs: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.steps + other.steps, self.images + other.images, self.macs + other.macs)

    def __mul__(self, times: int) -> Counted:
        return Counted(times * self.steps, times * self.images, times * self.macs)


NOTHING = Counted()
"""The work of a step without passes of a network or a scorer."""


def sum_counted(parts: Iterable[Counted]) -> Counted:
    """Add up counted work."""
    return reduce(Counted.__add__, parts, NOTHING)


def images_in(steps: int, batch: int, images: int) -> int:
    """Return the images in the first `steps` batches of a training on `images` images, epoch after epoch."""
    if steps <= 0 or batch <= 0:
        return 0
    sizes = _sizes(images, batch)
    epochs, rest = divmod(steps, len(sizes))
    return epochs * images + sum(sizes[:rest])


@cache
def _sizes(images: int, batch: int) -> list[int]:
    return batch_sizes(images, batch)


@cache
def _steps_of(epochs: float, batch: int, images: int) -> int:
    return training_steps_of(Recipe(epochs=epochs, batch=batch), images)


@dataclass(frozen=True)
class Workload:
    """The work of one step.

    `about` identifies the kind of work among steps of one operation; for equal kinds, seconds are proportional to
    `amount`. `units` counts the same work in units that the machine is probed for (see measure/probe.py). `memory` has
    the contents of memory in each phase of a step: `bytes`, bytes of `data` that may stay on disk instead, and images
    that pass through the network. `batch`, `precision` and `kernels` are those of training. `counted` is the part that
    costs are compared by: the same on every machine.
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
    counted: Counted = NOTHING


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
    predicted: int = 0
    """multiply-adds of the plan's scorer for the score of one weight"""
    learned: int = 0
    """multiply-adds of learning the plan's scorer once"""
    share: float = 1.0
    """share of the dense network's multiply-adds in the network that the step trains or evaluates"""

    @property
    def smaller(self) -> dict[str, float]:
        """The share in a kind of work, of a network without some of its channels."""
        return {"share": round(self.share, 3)} if self.share < 1 else {}

    def count(self, role: str) -> int:
        """Return the number of inputs of a role, such as `label` for `label.100` and `label.101`."""
        return sum(name.startswith(role) for name in self.roles)

    def training_units(self, images: float) -> dict[str, float]:
        """Return the units of training on this number of images."""
        if self.kernels == "compiled":
            return {"compiled": images, "compiling": 1}
        return {"sparse" if self.kernels == "sparse" else "train": images}

    def trained(self, recipe: Mapping[str, Any], steps: int, begin: int = 0) -> Counted:
        """Count `steps` training steps of a recipe, after the first `begin` ones."""
        batch, whole = recipe["batch"], self.source.train_images
        images = images_in(begin + steps, batch, whole) - images_in(begin, batch, whole)
        return Counted(steps, images, round(GRADIENT * images * self.network.macs * self.share))

    def differentiated(self, images: int, gradients: float = 1, hessian_products: float = 0) -> Counted:
        """Count gradients and Hessian products of the loss over `images`."""
        passes = GRADIENT * gradients + HESSIAN_PRODUCT * hessian_products
        return Counted(0, round(images * (gradients + hessian_products)), round(images * passes * self.network.macs))

    def evaluated(self, images: int) -> Counted:
        """Count a forward pass of `images`."""
        return Counted(0, images, round(images * self.network.macs * self.share))

    def passes_of_ones(self, number: int) -> Counted:
        """Count SynFlow passes: the gradient of a single input of ones."""
        return Counted(0, 0, GRADIENT * number * self.network.macs)

    def described(self, groups: Iterable[str], images: int) -> Counted:
        """Count the passes behind a feature table of these groups."""
        needs = needs_of(groups)
        gradient = self.differentiated(images) if "gradient" in needs else NOTHING
        return gradient + self.passes_of_ones(len(needs & {"flow", "joins"}))

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
    """Return the work of one training by a recipe, from step `rewind_to` on, or of copying a candidate.

    Of a recipe whose fields are chosen later, the longest one counts.
    """
    recipe = longest_recipe(options)
    if facts.count("candidate"):
        size = facts.state_bytes + LINE
        return Workload({"copies": True}, {"step": 1, "bytes": 2 * size}, ({"bytes": size},), size, runs_network=False)
    batch = facts.batch_of(recipe)
    begin = options.get("rewind_to", 0)
    steps = _steps_of(recipe["epochs"], recipe["batch"], facts.source.train_images)
    images = recipe["epochs"] * facts.source.train_images - begin * batch
    vectors = 13 if recipe.get("reparameterization") == "sign_in" else 7  # of all parameters, with two factors for each
    data, parameters = facts.training_bytes, vectors * 4 * facts.network.parameters
    about = {name: value for name, value in recipe.items() if name not in _COST_NOTHING}
    about |= {name: options[name] for name in ("rewind_to",) if name in options}
    about |= {"kernels": facts.kernels} if "kernels" in recipe else {}
    about |= facts.smaller
    about |= {"images": images} if facts.kernels == "compiled" else {}  # compiling takes as long for few as for many
    return Workload(
        {"shape": list(facts.source.shape), **about},
        {"step": 1, "build": 1, **facts.training_units(images * facts.share), "bytes": data + 2 * facts.state_bytes},
        (
            {"data": facts.with_border(recipe["crop"]), "bytes": parameters, "train": batch},
            {"data": 3 * data, "bytes": 2 * facts.state_bytes},
        ),
        facts.state_bytes + LINE,
        float(images),
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
        counted=facts.trained(recipe, max(0, steps - begin), begin),
    )


def longest_recipe(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a step's options with the most epochs, then the largest batch, among its `values`."""
    changes: Sequence[Mapping[str, Any]] = options.get("values") or [{}]

    def demand(recipe: Mapping[str, Any]) -> tuple[float, int, bool]:
        return float(recipe["epochs"]), recipe["batch"], recipe.get("reparameterization", "none") != "none"

    return max(({**options["training"], **change} for change in changes), key=demand)


def short_training(facts: Facts, recipe: Mapping[str, Any], held: float) -> tuple[Mapping[str, float], ...]:
    """Return the memory of training for some steps next to `held` bytes; no phase without a recipe's batch."""
    if not recipe["batch"]:
        return ()
    held_bytes = held + 12 * facts.state_bytes
    return ({"data": facts.with_border(recipe["crop"]), "bytes": held_bytes, "train": facts.batch_of(recipe)},)


def kind_of(operation: str, version: int, facts: Facts, work: Workload) -> str:
    """Return the digest of the kind of work: the same for steps whose seconds and peaks can be compared."""
    return digest([operation, version, facts.network.identity if work.depends_on_network else "", dict(work.about)])
