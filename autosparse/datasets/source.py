"""What a dataset tells before it is loaded, and what it gives when it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class Splits:
    """Pixels uint8 `[images, height, width, channels]` and integer labels `[images]` of the three splits."""

    train: tuple[numpy.ndarray, numpy.ndarray]
    validation: tuple[numpy.ndarray, numpy.ndarray]
    test: tuple[numpy.ndarray, numpy.ndarray]


@dataclass(frozen=True)
class Source:
    """A dataset that can be planned with before its files are there.

    `identity` is what its content depends on, and enters keys: a published digest and the split, never a
    path. `missing` says in one sentence what is not there and in another how to get it, or gives None;
    `fetches` tells that `load` will download. `shape` is (channels, height, width).
    """

    identity: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: int
    train_images: int
    test_images: int
    load: Callable[[], Splits]
    missing: Callable[[], tuple[str, str] | None] = lambda: None
    fetches: bool = False
