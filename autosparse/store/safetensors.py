"""Named tensors as safetensors bytes, strictly validated.

No metadata is ever written: safetensors orders it at random, and equal tensors must be equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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
    """One tensor of a file whose bytes were checked."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name).clone()
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
