"""Named tensors as safetensors bytes, strictly validated; rows of one tensor sharded over several files."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autosparse.lazy_torch import numpy, torch

_DTYPES = {"BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64"}
"""Types that all checks of values support; the library also reads complex numbers and types of 8 bits and fewer."""
_LARGEST_HEADER = 32 * 2**20


def dump_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return safetensors bytes: equal tensors give equal bytes, for any device and memory layout."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    layout = torch.contiguous_format
    return save({name: tensor.detach().cpu().clone(memory_format=layout) for name, tensor in tensors.items()})


def load_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of safetensors bytes, in file order. Raises ValueError on any anomaly."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        names = _names(data)
        tensors = load(data)
    except (KeyError, IndexError, TypeError, OverflowError, RecursionError, SafetensorError) as error:
        raise ValueError(f"the header is not one of safetensors: {error}") from error
    return {name: tensors[name] for name in names}


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """Return one tensor of a verified file. Raises ValueError for a tensor that the file does not have."""
    tensor: torch.Tensor = _read(path, name, "pt").clone()
    return tensor


def read_array(path: Path, name: str) -> numpy.ndarray[Any, Any]:
    """Return one tensor of a verified file as an array. Raises ValueError for one that the file does not have."""
    array: numpy.ndarray[Any, Any] = _read(path, name, "numpy")
    return array


def _read(path: Path, name: str, framework: str) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework) as opened:
            return opened.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _names(data: bytes) -> list[str]:
    # In file order, which the library loses; it also accepts repeated names.
    if len(data) < 8:
        raise ValueError("the file is too short to hold tensors")
    size = int.from_bytes(data[:8], "little")
    if size > min(_LARGEST_HEADER, len(data) - 8):
        raise ValueError(f"the header claims {size} bytes, the file has {len(data)}")
    pairs = json.loads(data[8 : 8 + size], object_pairs_hook=list)
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("the header repeats a name")
    entries = {name: dict(fields) for name, fields in pairs if name != "__metadata__"}
    if others := {str(entry["dtype"]) for entry in entries.values()} - _DTYPES:
        raise ValueError(f"a tensor has type {min(others)}, which is not supported")
    offsets = {name: entry["data_offsets"] for name, entry in entries.items()}
    end, there = max((stop for _, stop in offsets.values()), default=0), len(data) - 8 - size
    if end > there:
        raise ValueError(f"the file is cut off: its tensors take {end:,} bytes, of which the file has {there:,}")
    return sorted(offsets, key=offsets.__getitem__)


class ShardedRows:
    """Equal-sized uint8 rows in several safetensors files, as one tensor along the first dimension.

    `rows[numbers]` reads some rows from disk. Files open at their first read: the object can go to another process.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self._files = [*files]
        self._starts: list[int] = []  # first row of each file
        self._offsets: list[int] = []  # byte offset of that row in each file
        self._opened: dict[int, Any] = {}
        count, row = 0, None
        for file in files:
            offset, (rows, *inner) = _find(file, name)
            if row not in (None, inner):
                raise ValueError(f"rows of {file.name} are of another shape than those before")
            self._starts.append(count)
            self._offsets.append(offset)
            count, row = count + rows, inner
        self.shape: tuple[int, ...] = (count, *(row or ()))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return rows by number, uint8 `[len(numbers), ...]`."""
        rows = torch.empty((len(numbers), *self.shape[1:]), dtype=torch.uint8)
        array: Any = rows.view(-1).numpy()
        view = memoryview(array)
        size = math.prod(self.shape[1:])
        for at, number in enumerate(numbers.tolist()):
            shard = bisect_right(self._starts, number) - 1
            file = self._open(shard)
            file.seek(self._offsets[shard] + (number - self._starts[shard]) * size)
            if file.readinto(view[at * size : (at + 1) * size]) != size:
                raise OSError(f"{self._files[shard]} ends too early")
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def _open(self, shard: int) -> Any:
        if shard not in self._opened:
            self._opened[shard] = open(self._files[shard], "rb", buffering=0)  # noqa: SIM115  # for many reads
        return self._opened[shard]

    def __del__(self) -> None:
        for file in self._opened.values():
            file.close()


def _find(file: Path, name: str) -> tuple[int, list[int]]:
    # Offset of a tensor in a file, and its shape.
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        about = json.loads(opened.read(size))[name]
    if about["dtype"] != "U8":
        raise ValueError(f"{about['dtype']} in place of U8")
    return 8 + size + int(about["data_offsets"][0]), about["shape"]
