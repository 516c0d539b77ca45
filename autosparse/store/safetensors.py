"""Named tensors as safetensors bytes, strictly validated; rows of one sharded over several files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autosparse.lazy_torch import torch

_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8,
    "U64": 8, "F64": 8,
}  # fmt: skip
_LARGEST_HEADER = 32 * 2**20


def dump_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """safetensors bytes; equal tensors give equal bytes, whatever device or layout they had."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    layout = torch.contiguous_format
    return save({name: tensor.detach().cpu().clone(memory_format=layout) for name, tensor in tensors.items()})


def load_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of safetensors bytes, in the order they lie in the file. Raises ValueError on anything odd."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        names = _check_header(data)
        tensors = load(data)
    except (KeyError, IndexError, TypeError, OverflowError, RecursionError, SafetensorError) as error:
        raise ValueError(f"the header is not one of safetensors: {error}") from error
    return {name: tensors[name] for name in names}


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """One tensor of a file whose bytes were checked. Raises ValueError for one that the file does not have."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            tensor: torch.Tensor = opened.get_tensor(name).clone()
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return tensor


def _check_header(data: bytes) -> list[str]:
    # safetensors accepts repeated names and shapes that the bytes cannot hold: refuse them before it looks.
    if len(data) < 8:
        raise ValueError("the file is too short to hold tensors")
    size = int.from_bytes(data[:8], "little")
    if size > min(_LARGEST_HEADER, len(data) - 8):
        raise ValueError(f"the header claims {size} bytes, the file has {len(data)}")
    pairs = json.loads(data[8 : 8 + size], object_pairs_hook=list)
    if not isinstance(pairs, list) or len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("the header repeats a name")
    end = 0
    names: list[str] = []
    for name, fields in sorted(pairs, key=_start):
        if name == "__metadata__":
            continue
        entry: dict[str, Any] = dict(fields)
        begin, stop = entry["data_offsets"]
        if begin != end or stop - begin != math.prod(entry["shape"]) * _BYTES[entry["dtype"]]:
            raise ValueError(f"tensor {name} does not fill its place in the file")
        end = stop
        names.append(name)
    if end > len(data) - 8 - size:
        raise ValueError(
            f"the file is cut off: its tensors take {end:,} bytes, of which {len(data) - 8 - size:,} are there"
        )
    if end != len(data) - 8 - size:
        raise ValueError("the file has bytes that belong to no tensor")
    return names


def _start(pair: tuple[str, Any]) -> int:
    entry = dict(pair[1])
    return int(entry["data_offsets"][0]) if "data_offsets" in entry else -1


class ShardedRows:
    """uint8 tensors of equal rows in safetensors files, as one tensor along their first dimension.

    `rows[numbers]` reads some rows from disk. Files are opened where they are first read, so that the object
    can be sent to another process.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self._files = [*files]
        self._offsets: list[tuple[int, int]] = []  # of each file: its first row, and the byte at which it begins
        self._opened: dict[int, Any] = {}
        first = 0
        row: tuple[int, ...] = ()
        for file in files:
            begin, (count, *inner) = _find(file, name)
            if self._offsets and tuple(inner) != row:
                raise ValueError(f"rows of {file.name} are of another shape than those before")
            self._offsets.append((first, begin))
            first, row = first + count, tuple(inner)
        self.shape = (first, *row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: torch.Tensor) -> torch.Tensor:
        """Rows by number, uint8 `[len(numbers), ...]`."""
        rows = torch.empty((len(numbers), *self.shape[1:]), dtype=torch.uint8)
        array: Any = rows.view(-1).numpy()
        view = memoryview(array)
        size = math.prod(self.shape[1:])
        starts = torch.tensor([first for first, _ in self._offsets])
        shards = torch.searchsorted(starts, numbers.cpu().long(), right=True) - 1
        for at, (number, shard) in enumerate(zip(numbers.tolist(), shards.tolist(), strict=True)):
            first, begin = self._offsets[shard]
            file = self._open(shard)
            file.seek(begin + (number - first) * size)
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
    # Where a tensor begins in a file, and its shape.
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        about = json.loads(opened.read(size))[name]
    if about["dtype"] != "U8":
        raise ValueError(f"{about['dtype']} in place of U8")
    return 8 + size + int(about["data_offsets"][0]), about["shape"]
