"""The kinds of step: each loads its inputs, calls the core and saves its result."""

from autosparse.steps import data, emit, init, irp, label, latency, mask, sanity, scorer, sparse_train, train
from autosparse.steps._base import Context, Metrics, StepResult, check, metrics_of, operations
from autosparse.steps.tickets import folder, stages, ticket
from autosparse.steps.tuning import recipe, tune

__all__ = ["Context", "Metrics", "StepResult", "check", "metrics_of", "operations"]
