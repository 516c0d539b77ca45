"""The kinds of step: each loads its inputs, calls the core and saves its result."""

from autosparse.steps import data, emit, init, irp, label, mask, sanity, scorer, train, tune
from autosparse.steps._base import Metrics, Operation, StepResult, Work, metrics_of, operations

__all__ = [
    "Metrics", "Operation", "StepResult", "Work", "data", "emit", "init", "irp", "label", "mask", "metrics_of",
    "operations", "sanity", "scorer", "train", "tune",
]  # fmt: skip
