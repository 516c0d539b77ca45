"""Formats of emitted models by name."""

from autosparse.exporters import compact, dense, shrunk, sparse
from autosparse.exporters._base import (
    BATCHES,
    EAGER,
    Function,
    Model,
    Runtime,
    exporters,
    fit,
    most_numbers,
    open_model,
    runtime_of,
)
from autosparse.exporters.latency import Patience, Quartiles, Speed, measure_speed

__all__ = [
    "BATCHES", "EAGER", "Function", "Model", "Patience", "Quartiles", "Runtime", "Speed",
    "exporters", "fit", "measure_speed", "most_numbers", "open_model", "runtime_of",
]  # fmt: skip
