"""In what order values stand, of equal ones the first before the others."""

from __future__ import annotations

from autosparse.lazy_torch import numpy, torch

_POSITION_BITS = 32


def ascending(values: torch.Tensor) -> torch.Tensor:
    """Positions of a vector's values from the lowest to the highest, int64; of equal ones the first before others.

    What `argsort(stable=True)` gives, NaN last. On a CPU the bits of float32 values become integers in the same order,
    to which their positions are appended: sorting whole numbers is many times as fast as sorting pairs.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32 or len(values) >= 2 ** (_POSITION_BITS - 1):
        return values.argsort(stable=True)
    if bool(values.isnan().any()):  # whose bits have no order
        return values.argsort(stable=True)
    bits = (values.detach() + 0.0).view(torch.int32)  # -0.0 becomes 0.0, which it equals
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # of negative values the larger bits are the lower value
    packed = (bits.long() << _POSITION_BITS) | torch.arange(len(values), device=values.device)
    order: torch.Tensor = torch.from_numpy(numpy.sort(packed.numpy())) & (2**_POSITION_BITS - 1)
    return order


def descending(values: torch.Tensor) -> torch.Tensor:
    """Positions from the highest value to the lowest; equal ones in the order of their positions. Of no NaN."""
    return ascending(-values)


def reached_by(values: torch.Tensor, count: int) -> torch.Tensor:
    """The value that `count` of a vector's values reach, in [1, len(values)]: the `count`-th from above. Of no NaN."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.topk(count, sorted=False).values.min()
    index = len(values) - count
    return torch.from_numpy(numpy.partition(values.detach().numpy(), index))[index].clone()
