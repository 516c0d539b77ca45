"""Python API: plans, runs and reports; one-call pruning, masks that stay zero, export and loading of models."""

from autosparse.api.export import export
from autosparse.api.exported import Exported
from autosparse.api.load import OpenedModel, load, read_emitted
from autosparse.api.masks import Masks
from autosparse.api.prune import prune, score
from autosparse.api.runs import Plan, Records, Report, plan, run
from autosparse.api.selftest import self_test
from autosparse.api.sparse_training import SparseTraining, sparse_training

__all__ = [
    "Exported", "Masks", "OpenedModel", "Plan", "Records", "Report", "SparseTraining", "export", "load", "plan",
    "prune", "read_emitted", "run", "score", "self_test", "sparse_training",
]  # fmt: skip
