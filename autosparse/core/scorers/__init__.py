"""Scorers by name: each learns from the labels of IRP to predict which weights survive."""

from autosparse.core.scorers import perceptron, quota
from autosparse.core.scorers._base import groups_of, macs_of, score_weights, scorers

__all__ = ["groups_of", "macs_of", "score_weights", "scorers"]
