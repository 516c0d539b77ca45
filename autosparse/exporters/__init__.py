"""Formats of emitted models by name."""

from autosparse.exporters import compact, dense, shrunk, sparse
from autosparse.exporters._base import (
    BATCHES,
    EAGER,
    Function,
    Model,
    Runtime,
    bytes_of,
    calibrates,
    exporters,
    fit,
    is_lossy,
    most_numbers,
    open_model,
    runtime_of,
)
from autosparse.exporters.latency import Patience, Quartiles, Speed, measure_speed
from autosparse.exporters.signature import Preprocessing, Signature, card_fields

__all__ = [
    "BATCHES", "EAGER", "Function", "Model", "Patience", "Preprocessing", "Quartiles", "Runtime", "Signature", "Speed",
    "bytes_of", "calibrates", "card_fields", "exporters", "fit", "is_lossy", "measure_speed", "most_numbers",
    "open_model", "runtime_of",
]  # fmt: skip
