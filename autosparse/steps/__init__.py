"""The kinds of step: each loads its inputs, calls the core and saves its result."""

from autosparse.steps import data, emit, init, irp, label, latency, mask, sanity, scorer, train, tune
from autosparse.steps._base import Context, Metrics, StepResult, check, metrics_of, operations

__all__ = ["Context", "Metrics", "StepResult", "check", "metrics_of", "operations"]
