"""Python API: one-call pruning, masks that keep pruned weights zero, export and loading of models."""

from autosparse.api.export import export
from autosparse.api.exported import Exported
from autosparse.api.load import OpenedModel, load, read_emitted
from autosparse.api.masks import Masks
from autosparse.api.prune import prune, score
from autosparse.api.selftest import self_test

__all__ = ["Exported", "Masks", "OpenedModel", "export", "load", "prune", "read_emitted", "score", "self_test"]
