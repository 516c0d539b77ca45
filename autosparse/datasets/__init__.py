"""Datasets by name: a registered function of its options gives a `Source`; nothing is read until `load`."""

from collections.abc import Callable
from typing import TypeAlias

from autosparse.datasets.source import Source, Splits
from autosparse.registry import Registry

Dataset: TypeAlias = Callable[..., Source]
datasets: Registry[Dataset] = Registry("dataset", "datasets")

from autosparse.datasets import cifar10, digits  # noqa: E402

__all__ = ["Dataset", "Source", "Splits", "cifar10", "datasets", "digits"]
