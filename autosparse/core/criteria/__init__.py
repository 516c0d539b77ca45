"""Criteria by name: each turns evidence about a network at initialization into scores."""

from autosparse.core.criteria import baselines, learned, saliency
from autosparse.core.criteria._base import Criterion, criteria

__all__ = ["Criterion", "baselines", "criteria", "learned", "saliency"]
