"""For people with code of their own: pruning in one call, masks that hold, and emitted models opened again."""

from autosparse.api.load import OpenedModel, load, read_emitted
from autosparse.api.masks import LayerSummary, Masks, Summary
from autosparse.api.prune import prune, score
from autosparse.api.selftest import SelfTest, self_test

__all__ = [
    "LayerSummary", "Masks", "OpenedModel", "SelfTest", "Summary", "load", "prune", "read_emitted", "score",
    "self_test",
]  # fmt: skip
