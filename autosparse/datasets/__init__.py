"""Datasets by name: a registered function of its options gives a `Pool`; nothing is read until it is loaded."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from autosparse.datasets.choose import Part, choose_part
from autosparse.datasets.source import Pool, Source, Split, Splits
from autosparse.registry import Registry

Dataset: TypeAlias = Callable[..., Pool]
datasets: Registry[Dataset] = Registry("dataset", "datasets", shared=Part)

from autosparse.datasets import digits, image_folder, parquet, torchvision  # noqa: E402, I001
from autosparse.datasets import own  # noqa: E402  # last: its pattern matches what others' may


def open_source(name: str, options: Mapping[str, Any]) -> Source:
    """The part of a registered dataset that options ask for. Raises UsageError where it cannot be given."""
    entry = datasets[name]
    own, shared = entry.apart(options)
    return choose_part(entry.function(**own), Part(**shared), name)


__all__ = [
    "Dataset", "Part", "Pool", "Source", "Split", "Splits", "datasets", "digits", "image_folder", "open_source",
    "own", "parquet", "torchvision",
]  # fmt: skip
