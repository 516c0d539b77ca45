"""Named tensors as safetensors bytes, strictly validated; rows of one tensor sharded over several files."""

from __future__ import annotations

import io
import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from autosparse.borders import is_of_machine
from autosparse.lazy_torch import numpy, torch

_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8,
          "U64": 8, "F64": 8}  # fmt: skip
"""Bytes of the types that all checks of values support; the library also reads complex numbers and smaller types."""
_LARGEST_HEADER = 32 * 2**20


def dump_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return safetensors bytes: equal tensors give equal bytes, for any device and memory layout."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    layout = torch.contiguous_format
    return save({name: tensor.detach().cpu().clone(memory_format=layout) for name, tensor in tensors.items()})


def load_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of safetensors bytes, in file order. Raises ValueError on any anomaly."""
    from safetensors.torch import load

    entries = _header(io.BytesIO(data), len(data))
    with _refused():
        tensors = load(data)
        return {name: tensors[name] for name in entries}


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """Return one tensor of a verified file. Raises ValueError for a tensor that the file does not have."""
    tensor: torch.Tensor = _read(path, name, "pt").clone()
    return tensor


def read_array(path: Path, name: str) -> numpy.ndarray[Any, Any]:
    """Return one tensor of a verified file as an array. Raises ValueError for one that the file does not have."""
    array: numpy.ndarray[Any, Any] = _read(path, name, "numpy")
    return array


def _read(path: Path, name: str, framework: str) -> Any:
    from safetensors import safe_open

    _entry_of(path, name)
    with _refused(), safe_open(path, framework) as opened:
        return opened.get_tensor(name)


@contextmanager
def _refused() -> Iterator[None]:
    # The library and JSON raise errors of many kinds.
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if is_of_machine(error):
            raise
        raise ValueError(f"the file is not one of safetensors: {error}") from error


class _Entry(NamedTuple):
    """Type, shape, and first byte of a tensor, from the start of the file; `stop` is the byte after its last."""

    dtype: str
    shape: list[int]
    start: int
    stop: int


def _entry_of(path: Path, name: str) -> _Entry:
    with open(path, "rb") as file:
        entries = _header(file, path.stat().st_size)
    if name not in entries:
        raise ValueError(f"the file has no tensor `{name}`")
    return entries[name]


def _header(file: BinaryIO, size: int) -> dict[str, _Entry]:
    # The tensors in file order, which the library loses; it also accepts repeated names. All bytes belong to one.
    if size < 8:
        raise ValueError("the file is too short to hold tensors")
    length = int.from_bytes(file.read(8), "little")
    if length > min(_LARGEST_HEADER, size - 8):
        raise ValueError(f"the header claims {length} bytes, the file has {size}")
    with _refused():
        fields = json.loads(file.read(length), object_pairs_hook=_without_repeats)
        described = {name: _entry(about, 8 + length) for name, about in fields.items() if name != "__metadata__"}
    entries = dict(sorted(described.items(), key=lambda item: item[1][2:]))
    begin = end = 8 + length
    for name, entry in entries.items():
        if entry.start != end:
            raise ValueError(f"the bytes of `{name}` do not follow those before")
        end = entry.stop
    if end > size:
        needed, there = end - begin, size - begin
        raise ValueError(f"the file is cut off: its tensors take {needed:,} bytes, of which the file has {there:,}")
    if end < size:
        raise ValueError(f"the file has {size - end:,} bytes after its tensors")
    return entries


def _entry(about: Mapping[str, Any], begin: int) -> _Entry:
    dtype, shape, (start, stop) = (about[name] for name in ("dtype", "shape", "data_offsets"))
    if dtype not in _BYTES:
        raise ValueError(f"a tensor has type {dtype}, which is not supported")
    numbers = [*shape, start, stop]
    if not (isinstance(shape, list) and all(type(number) is int and 0 <= number < 2**63 for number in numbers)):
        raise ValueError(f"a tensor has shape {shape} and bytes {start} to {stop}")
    if math.prod(shape) * _BYTES[dtype] != stop - start:
        raise ValueError(f"a tensor of shape {shape} and type {dtype} has {stop - start:,} bytes")
    return _Entry(dtype, shape, begin + start, begin + stop)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("the header repeats a name")
    return value


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
            dtype, shape, offset, _ = _entry_of(file, name)
            if dtype != "U8" or not shape:
                raise ValueError(f"`{name}` of {file.name} is {dtype} of shape {shape} in place of rows of U8")
            rows, *inner = shape
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
