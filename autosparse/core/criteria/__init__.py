"""Criteria by name: each turns evidence about a network at initialization into scores."""

from autosparse.core.criteria import learned, saliency
from autosparse.core.criteria._base import Criterion, criteria

__all__ = ["Criterion", "criteria", "learned", "saliency"]
