"""Python API: plans, runs and reports; one-call pruning, masks that stay zero, and loading of exported models."""

from autosparse.api.load import OpenedModel, load, read_emitted
from autosparse.api.masks import Masks
from autosparse.api.plan import Plan, plan
from autosparse.api.prune import prune, score
from autosparse.api.records import Records
from autosparse.api.report import Report
from autosparse.api.run import run
from autosparse.api.selftest import self_test

__all__ = [
    "Masks", "OpenedModel", "Plan", "Records", "Report", "load", "plan", "prune", "read_emitted", "run", "score",
    "self_test",
]  # fmt: skip
