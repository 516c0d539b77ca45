"""The masks that a step makes: their counts, their paths, and the state at the start of training under them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from autosparse.core.graph.connectivity import Anatomy, Finding
from autosparse.core.graph.slicing import Slicing, from_named
from autosparse.core.schedule import keeps_weights
from autosparse.core.weights import Tensors, total_of
from autosparse.lazy_torch import torch
from autosparse.steps._base import Content, Count, MaskedResult, Positive, Real, finite, reading
from autosparse.steps.latency import PredictedLatency
from autosparse.store import Artifact

_BY_LAYER = ("effective", "nodes", "channels", "paths_through")


@dataclass(frozen=True)
class MaskResult(MaskedResult):
    """Masks, the weights kept in each layer, and its remaining paths, which are unknown for some networks."""

    total: Positive
    kept: dict[str, Count]
    findings: list[Finding]
    effective: dict[str, Count] | None = None
    """weights on a path from input to output"""
    nodes: dict[str, Count] | None = None
    """output channels that a path enters"""
    channels: dict[str, Positive] | None = None
    """output channels"""
    paths: Real | Literal["unknown"] | None = "unknown"
    """natural logarithm of their number; None for no path"""
    paths_through: dict[str, Real | None] | None = None
    """the same for each layer"""
    notes: list[str] = field(default_factory=list)

    @property
    def keeps_weights(self) -> bool:
        """True for masks whose training continues from the weights that were trained with them."""
        method = self.asked.get("method")
        return method is not None and keeps_weights(method)

    def files(self) -> set[str]:
        """Return the names of the files that the step writes."""
        return super().files() | ({"state.safetensors"} if self.keeps_weights else set())

    def check_contents(self) -> None:
        """Read and check every file. Raises DamagedArtifact."""
        super().check_contents()
        self.read_state()

    def read_state(self) -> Tensors:
        """Return parameters and buffers at the end of a search that keeps them, else none. Raises DamagedArtifact."""
        if not self.keeps_weights:
            return {}
        with reading(self.artifact, "state.safetensors"):
            return finite(self, "state")

    @classmethod
    def of(cls, masks: Tensors, anatomy: Anatomy, notes: list[str], **others: Any) -> Self:
        """Describe masks. JSON has no infinity: the logarithm of no path is None."""
        known: dict[str, Any] = {}
        if paths := anatomy.paths:
            through = {name: _finite(value) for name, value in paths.through.items()}
            counts = {"effective": paths.weights, "nodes": paths.nodes, "channels": paths.channels}
            known = {**counts, "paths": _finite(paths.all), "paths_through": through}
        return cls(
            total=total_of(masks), kept=anatomy.kept, findings=[*anatomy.findings], **known, notes=notes, **others
        )

    @property
    def by_layer(self) -> dict[str, dict[str, Any]]:
        """Known facts of paths: name of the field -> layer -> value."""
        return {part: counts for part in _BY_LAYER if (counts := getattr(self, part)) is not None}

    def check(self) -> None:
        """Compare layers with each other, and require the facts of paths to be complete."""
        self.require(0 < sum(self.kept.values()) <= self.total, "result.json: `kept` and `total` do not fit")
        number = 0 if self.paths == "unknown" else len(_BY_LAYER)
        self.require(len(self.by_layer) == number, f"result.json: `paths`, `{'`, `'.join(_BY_LAYER)}` go together")
        for part, counts in self.by_layer.items():
            self.require({*counts} == {*self.kept}, f"result.json: `{part}` has not the layers of `kept`")

    @property
    def kept_by_layer(self) -> Mapping[str, int]:
        """Weights that the masks of each layer keep."""
        return self.kept


@dataclass(frozen=True)
class ChannelMaskResult(MaskResult):
    """Masks that remove whole channels, with the smaller network that they leave."""

    groups: dict[str, list[Count]] = field(default_factory=dict)
    """group of coupled channels -> positions of those kept"""
    latency: PredictedLatency | None = None
    """for a budget in latency"""

    @Content
    def slices(self) -> Slicing:
        """The smaller network."""
        return from_named(self.artifact.tensors("slices"))


def read_masks(artifact: Artifact) -> MaskResult:
    """Return the result of a step that makes masks. Raises DamagedArtifact."""
    return (ChannelMaskResult if "slices.safetensors" in artifact.files else MaskResult).read(artifact)


def start_from(network: torch.nn.Module, result: MaskResult) -> None:
    """Load the state that training under masks starts from, if it is not the initial one. Raises DamagedArtifact."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad(), reading(result.artifact, "state.safetensors"):
        for name, tensor in result.read_state().items():
            tensors[name].copy_(tensor)


def slicing_under(result: MaskResult | None) -> Slicing | None:
    """Return the smaller network that masks of whole channels leave; None for other masks."""
    return result.slices if isinstance(result, ChannelMaskResult) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
