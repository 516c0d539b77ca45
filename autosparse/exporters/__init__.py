"""Formats of emitted models by name."""

from autosparse.exporters import compact, hub, onnx, pt2, safetensors, shrunk, sparse
from autosparse.exporters._base import BATCHES, Export, Model, exporters, fit, open_model

__all__ = [
    "BATCHES",
    "Export",
    "Model",
    "compact",
    "exporters",
    "fit",
    "hub",
    "onnx",
    "open_model",
    "pt2",
    "safetensors",
    "shrunk",
    "sparse",
]  # fmt: skip
