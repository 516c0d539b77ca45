"""Python API: one-call pruning, masks that keep pruned weights zero, and loading of emitted models."""

from autosparse.api.load import OpenedModel, load, read_emitted
from autosparse.api.masks import Masks
from autosparse.api.prune import prune, score
from autosparse.api.selftest import self_test

__all__ = ["Masks", "OpenedModel", "load", "prune", "read_emitted", "score", "self_test"]
