"""Formats of emitted models by name."""

from autosparse.exporters import compact, dense, shrunk, sparse
from autosparse.exporters._base import BATCHES, Model, exporters, fit, open_model

__all__ = ["BATCHES", "Model", "exporters", "fit", "open_model"]
