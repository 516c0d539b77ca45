"""Masks: counted, checked, combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.core.allocation import Counts
from autosparse.core.connectivity import Finding, describe_network, find_cuts
from autosparse.core.evidence import Evidence
from autosparse.core.paths import Paths, effective_weights, trace_paths
from autosparse.lazy import torch


def kept(masks: Mapping[str, torch.Tensor]) -> Counts:
    """Ones per layer."""
    return {name: int(mask.count_nonzero()) for name, mask in masks.items()}


@dataclass(frozen=True)
class Anatomy:
    """What masks keep of a network, what of it lies on paths, and what they cut."""

    kept: Counts
    paths: Paths
    findings: tuple[Finding, ...]


def dissect(evidence: Evidence) -> Anatomy:
    """The anatomy of the network under the evidence's masks, in three passes of it."""
    on_path = effective_weights(evidence)
    findings = find_cuts(evidence, on_path, describe_network(evidence))
    return Anatomy(kept(evidence.masks), trace_paths(evidence, on_path), findings)


def effective(evidence: Evidence) -> Counts:
    """Weights per layer that lie on a path from input to output."""
    return kept(effective_weights(evidence))
