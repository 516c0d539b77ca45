"""A tensor sharded over several files, its rows read from disk."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autosparse.lazy_torch import torch


class Rows:
    """uint8 tensors of equal rows in safetensors files, as one tensor along their first dimension.

    `rows[numbers]` reads some rows from disk. Files are opened where they are first read, so that the object
    can be sent to another process.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self._files = [*files]
        self._places: list[tuple[int, int]] = []  # of each file: its first row, and the byte at which it begins
        self._opened: dict[int, Any] = {}
        first = 0
        row: tuple[int, ...] = ()
        for file in files:
            begin, (count, *inner) = _find(file, name)
            self._places.append((first, begin))
            first, row = first + count, tuple(inner)
        self.shape = (first, *row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: torch.Tensor) -> torch.Tensor:
        """Rows by number, uint8 `[len(numbers), ...]`."""
        found = torch.empty((len(numbers), *self.shape[1:]), dtype=torch.uint8)
        array: Any = found.view(-1).numpy()
        view = memoryview(array)
        size = math.prod(self.shape[1:])
        starts = torch.tensor([first for first, _ in self._places])
        places = torch.searchsorted(starts, numbers.cpu().long(), right=True) - 1
        for at, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            first, begin = self._places[place]
            file = self._open(place)
            file.seek(begin + (number - first) * size)
            if file.readinto(view[at * size : (at + 1) * size]) != size:
                raise OSError(f"{self._files[place]} ends too early")
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def _open(self, place: int) -> Any:
        if place not in self._opened:
            self._opened[place] = open(self._files[place], "rb", buffering=0)  # noqa: SIM115  # for many reads
        return self._opened[place]

    def __del__(self) -> None:
        for file in self._opened.values():
            file.close()


def _find(file: Path, name: str) -> tuple[int, list[int]]:
    # Where a tensor begins in a file, and its shape.
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        about = json.loads(opened.read(size))[name]
    return 8 + size + int(about["data_offsets"][0]), about["shape"]
