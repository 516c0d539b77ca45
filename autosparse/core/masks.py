"""Masks: counted, checked, combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.core.allocation import Counts
from autosparse.core.connectivity import Finding, describe_network, emptied, find_cuts
from autosparse.core.evidence import Evidence
from autosparse.core.paths import Paths, Untraceable, effective_weights, trace_paths
from autosparse.errors import UsageError
from autosparse.lazy import torch


def kept(masks: Mapping[str, torch.Tensor]) -> Counts:
    """Ones per layer."""
    return {name: int(mask.count_nonzero()) for name, mask in masks.items()}


@dataclass(frozen=True)
class Anatomy:
    """What masks keep of a network, what of it lies on paths, and what they cut."""

    kept: Counts
    paths: Paths | None
    """None for a network whose paths cannot be followed"""
    findings: tuple[Finding, ...]


def dissect(evidence: Evidence) -> Anatomy:
    """The anatomy of the network under the evidence's masks, in three passes of it.

    Without paths where the network does not let them be followed, which `note` says: a diagnosis stops nothing.
    """
    try:
        on_path = effective_weights(evidence)
        findings = find_cuts(evidence, on_path, describe_network(evidence))
        return Anatomy(kept(evidence.masks), trace_paths(evidence, on_path), findings)
    except (UsageError, Untraceable) as error:
        evidence.note(f"effective sparsity and paths are unknown: {error}")
        return Anatomy(kept(evidence.masks), None, emptied(evidence.masks))


def effective(evidence: Evidence) -> Counts:
    """Weights per layer that lie on a path from input to output."""
    return kept(effective_weights(evidence))
