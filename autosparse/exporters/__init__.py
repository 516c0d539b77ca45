"""Formats of emitted models by name."""

from autosparse.exporters import compact, hub, onnx, pt2, safetensors, shrunk, sparse
from autosparse.exporters._base import BATCHES, Export, Model, exporters, open_model, place

__all__ = [
    "BATCHES", "Export", "Model", "compact", "exporters", "hub", "onnx", "open_model", "place", "pt2", "safetensors",
    "shrunk", "sparse",
]  # fmt: skip
