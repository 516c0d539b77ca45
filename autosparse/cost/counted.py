"""The work of a step, and what it depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autosparse.core.features import columns_of, needs_of
from autosparse.datasets import Source
from autosparse.models.facts import NetworkFacts
from autosparse.store import digest

_COMPILER = 300 * 2**20  # that a process holds once it has compiled; 240 MB were measured


@dataclass(frozen=True)
class Counted:
    """The work of a step.

    `kind` is the digest of what is done, `amount` how much of it: seconds are proportional to it among steps of
    a kind. `units` is the same work as counts of what can be timed once (see measure/probe.py); `memory` is what is
    held at one time, for every phase of the step: `bytes`, bytes of `data` that may stay on disk instead, and images
    that pass through the network.
    `batch`, `precision` and `kernels` are those of training.
    """

    kind: str
    amount: float
    units: Mapping[str, float]
    memory: tuple[Mapping[str, float], ...]
    disk_bytes: int
    network: str | None = None
    """the `init` step of the network, of which any of the same structure does"""
    batch: int = 0
    precision: str = "float32"
    kernels: str = "dense"

    @property
    def held(self) -> str:
        """What is held at one time, as a digest: equal for steps whose peaks can be compared."""
        return digest([dict(phase) for phase in self.memory])


def with_compiler(works: dict[str, Counted]) -> dict[str, Counted]:
    """The work of all steps, with what any may hold of torch's compiler if one of them compiles."""
    if all(work.kernels != "compiled" for work in works.values()):
        return works
    memory = {
        name: tuple({**phase, "bytes": phase.get("bytes", 0.0) + _COMPILER} for phase in work.memory)
        for name, work in works.items()
    }
    return {name: replace(work, memory=memory[name]) for name, work in works.items()}


@dataclass(frozen=True)
class Inputs:
    """What a step's work depends on beside its options: the network's facts and the images of its dataset."""

    facts: NetworkFacts
    source: Source
    inputs: int = 0
    groups: tuple[str, ...] = ()
    """the feature groups that the plan's scorer looks at"""
    updates: int = 1
    """of the plan's scorer when it learns; one that learns in closed form does so once"""
    warm_up: int = 0
    """and the training steps before it does"""
    kernels: str = "dense"
    """that the step trains by"""

    def trained(self, images: float) -> dict[str, float]:
        """The work of one training of so many images."""
        if self.kernels == "compiled":
            return {"compiled": images, "compiling": 1}
        return {"sparse" if self.kernels == "sparse" else "train": images}

    @property
    def columns(self) -> int:
        return len(columns_of(self.groups))

    @property
    def feature_flows(self) -> int:
        """Passes of ones that a feature table takes."""
        return len(needs_of(self.groups) & {"flow", "joins"})

    @property
    def image_bytes(self) -> int:
        return math.prod(self.source.shape)

    @property
    def state_bytes(self) -> int:
        return 4 * (self.facts.parameters + self.facts.buffers)

    @property
    def images(self) -> int:
        return self.source.train_images + self.source.validation_images + self.source.test_images
