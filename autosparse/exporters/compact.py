"""Nonzero weights and their positions, in the fewest bytes for each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from autosparse.core.weights import Tensors
from autosparse.exporters._base import Model, exporters, most_numbers
from autosparse.lazy_torch import numpy, torch
from autosparse.store import dump_tensors, load_tensors

FILE = "model.compact.safetensors"
_PARTS = ("values", "bits", "steps")


def read(files: Mapping[str, bytes]) -> Model:
    """Return the model that `compact` wrote. Raises ValueError for bytes that are not one."""
    stored = load_tensors(files[FILE])
    named = {name: tensor for name, tensor in stored.items() if name.endswith("/shape")}
    shapes = {name.removesuffix("/shape"): _shape(name, tensor) for name, tensor in named.items()}
    if sum(map(math.prod, shapes.values())) > most_numbers(len(files[FILE])):
        raise ValueError(f"{FILE} claims to hold more numbers than a file of {len(files[FILE])} bytes does")
    masks = {name: _mask(name, shape, stored) for name, shape in shapes.items()}
    state: Tensors = {}
    for name, tensor in stored.items():
        owner, _, part = name.rpartition("/")
        if owner not in masks:
            state[name] = tensor
        elif part == "shape":
            state[owner] = _filled(masks[owner], stored[f"{owner}/values"])
    return Model(state, masks)


@exporters.register(read=read, files=(FILE,), exact=True, gain="loads as a dense network")
def compact(
    model: Model,
    *,
    values: Annotated[Literal["float32", "float16", "bfloat16"], "data type of the kept weights"] = "float32",
) -> dict[str, bytes]:
    """`model.compact.safetensors`: kept weights and their positions, in the fewest bytes for each layer.

    A pruned tensor is stored as its values with a bit mask or the steps between positions, whichever is smaller;
    `autosparse.load` returns the network.
    """
    stored: Tensors = {}
    for name, tensor in model.state.items():
        if name not in model.masks:
            stored[name] = tensor
            continue
        mask = model.masks[name].cpu().bool()
        kept = tensor.detach().cpu().flatten()[mask.flatten()]
        rounded = kept.to(getattr(torch, values)) if kept.dtype == torch.float32 else kept
        stored |= {
            f"{name}/shape": torch.tensor(mask.shape, dtype=torch.int64),
            f"{name}/values": rounded,
            **{f"{name}/{part}": tensor for part, tensor in _smallest(mask.flatten()).items()},
        }
    return {FILE: dump_tensors(stored)}


def _smallest(mask: torch.Tensor) -> Tensors:
    bits = torch.from_numpy(numpy.packbits(mask.numpy(), bitorder="little"))  # eight positions a byte, lowest bit first
    ways = [{"bits": bits}, {"steps": _steps(mask, torch.uint8)}, {"steps": _steps(mask, torch.uint16)}]
    return min(ways, key=lambda way: sum(tensor.numel() * tensor.element_size() for tensor in way.values()))


def _steps(mask: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    # Number of positions skipped before each kept one; the largest number skips that many and continues.
    most = torch.iinfo(kind).max
    positions = mask.nonzero().flatten()
    skipped = positions.diff(prepend=torch.tensor([-1])) - 1
    further = skipped // most
    steps = torch.full((len(positions) + int(further.sum()),), most, dtype=torch.int64)
    steps[(further + 1).cumsum(0) - 1] = skipped % most
    return steps.to(kind)


def _shape(name: str, tensor: torch.Tensor) -> list[int]:
    sides: list[int] = tensor.tolist() if tensor.dtype == torch.int64 and tensor.ndim == 1 else [-1]
    if any(side < 0 for side in sides):
        raise ValueError(f"tensor {name} is not a shape")
    return sides


def _mask(name: str, shape: list[int], stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
    parts = {part: stored[f"{name}/{part}"] for part in _PARTS if f"{name}/{part}" in stored}
    size = math.prod(shape)
    if "values" not in parts or parts["values"].ndim != 1:
        raise ValueError(f"tensor {name} has no values")
    if ("bits" in parts) == ("steps" in parts):
        raise ValueError(f"tensor {name} does not say in one way where its values stand")
    mask = _from_bits(name, parts["bits"], size) if "bits" in parts else _from_steps(name, parts["steps"], size)
    if int(mask.sum()) != len(parts["values"]):
        raise ValueError(f"tensor {name} has {len(parts['values'])} values for {int(mask.sum())} places")
    return mask.view(shape)


def _from_bits(name: str, bits: torch.Tensor, size: int) -> torch.Tensor:
    if bits.dtype != torch.uint8 or bits.ndim != 1 or len(bits) != (size + 7) // 8:
        raise ValueError(f"tensor {name} does not say of each of its {size} places whether it is kept")
    return torch.from_numpy(numpy.unpackbits(bits.numpy(), count=size, bitorder="little")).bool()


def _from_steps(name: str, steps: torch.Tensor, size: int) -> torch.Tensor:
    if steps.dtype not in (torch.uint8, torch.uint16) or steps.ndim != 1:
        raise ValueError(f"tensor {name} has no valid steps between its positions")
    most = torch.iinfo(steps.dtype).max
    skipped = steps.to(torch.int64)
    ends = skipped != most
    if len(steps) and not bool(ends[-1]):
        raise ValueError(f"tensor {name} ends within a step")
    positions = (skipped.cumsum(0) + ends.cumsum(0))[ends] - 1
    if len(positions) and int(positions[-1]) >= size:
        raise ValueError(f"tensor {name} has a value beyond its {size} places")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[positions] = True
    return mask


def _filled(mask: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else values.dtype
    tensor = torch.zeros(mask.numel(), dtype=kind)
    tensor[mask.flatten()] = values.to(kind)
    return tensor.view(mask.shape)
