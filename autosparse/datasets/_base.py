"""Datasets by name: a registered function of its options gives a `Pool`; nothing is read until it is loaded."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from autosparse.datasets.source import Pool, Source
from autosparse.datasets.split import Part, choose_part
from autosparse.registry import Registry

Dataset: TypeAlias = Callable[..., Pool]
datasets: Registry[Dataset] = Registry("dataset", "datasets", shared=Part)


def open_source(name: str, options: Mapping[str, Any]) -> Source:
    """The part of a registered dataset that options ask for. Raises UsageError where it cannot be given."""
    entry = datasets[name]
    given, shared = entry.apart(options)
    return choose_part(entry.function(**given), Part(**shared), name)
