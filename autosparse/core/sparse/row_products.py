"""A layer as sparse products, one for each row of its kernel; imported on first use, as it imports torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence

from autosparse.lazy_torch import torch

_NEAR = 1024  # positions of a convolution computed at once


class RowProducts(torch.nn.Module):
    """A Linear or Conv2d that computes with the remaining weights only, for some batch sizes.

    `sparse` are those batch sizes, `known` all measured ones; another size uses the nearest.
    """

    def __init__(self, dense: torch.nn.Module, sparse: Collection[int], known: Collection[int]) -> None:
        super().__init__()
        assert isinstance(dense, torch.nn.Linear | torch.nn.Conv2d)
        self.dense, self.sparse, self.known = dense, sparse, known
        weight = dense.weight.detach()
        rows = weight.unbind(2) if weight.ndim > 2 else (weight,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's sparse tensors are in beta
            self.rows = [row.contiguous().flatten(1).to_sparse_csr() for row in rows]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Compute the layer by the faster way for that batch size."""
        count = max(1, len(inputs))
        nearest = min(self.known, key=lambda known: abs(math.log(known / count)))
        result: torch.Tensor = self.multiply(inputs) if nearest in self.sparse else self.dense(inputs)
        return result

    def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
        """Compute the layer by sparse products."""
        if isinstance(self.dense, torch.nn.Conv2d):
            outputs = convolve(inputs.contiguous(), self.rows, self.dense)
            return outputs if self.dense.bias is None else outputs.add_(self.dense.bias.view(-1, 1, 1))
        flat = inputs.reshape(-1, inputs.shape[-1])
        # A single vector has a separate routine, twice as fast.
        result: torch.Tensor = self.rows[0] @ flat[0] if len(flat) == 1 else (self.rows[0] @ flat.t()).t()
        result = result.reshape(*inputs.shape[:-1], -1)
        return result if self.dense.bias is None else result + self.dense.bias


def convolve(inputs: torch.Tensor, rows: Sequence[torch.Tensor], conv: torch.nn.Conv2d) -> torch.Tensor:
    """Convolve by one sparse product for each row of the kernel, `rows`: `[outputs, inputs * columns]`.

    Lines of one stride phase are contiguous, so that other rows of the kernel read the same memory at an offset. The
    input is copied once for each column of the kernel, not for each weight as by unfolding.
    """
    assert not isinstance(conv.padding, str)
    (down, across), (step, stride), (high, far) = conv.padding, conv.stride, conv.dilation
    tall, wide = conv.kernel_size
    height, width = inputs.shape[2] + 2 * down, inputs.shape[3] + 2 * across
    lines, columns = (height - high * (tall - 1) - 1) // step + 1, (width - far * (wide - 1) - 1) // stride + 1
    padded = torch.nn.functional.pad(inputs, (across, across, down, down + -height % step))
    each = padded.shape[2] // step
    outputs = inputs.new_empty(len(inputs), conv.out_channels, lines, columns)
    several = max(1, _NEAR // (lines * columns))
    for first in range(0, len(inputs), several):
        images = padded[first : first + several]
        count, (image, channel, line, pixel) = len(images), images.stride()
        laid = images.as_strided(
            (images.shape[1], wide, step, each, count, columns),
            (channel, pixel * far, line, line * step, image, pixel * stride),
            images.storage_offset(),
        ).reshape(images.shape[1] * wide, -1)
        result = None
        for number, row in enumerate(rows):
            further, phase = divmod(number * high, step)
            start = (phase * each + further) * count * columns
            under = laid[:, start : start + lines * count * columns]
            result = row @ under if result is None else torch.addmm(result, row, under)
        assert result is not None
        outputs[first : first + count] = result.view(-1, lines, count, columns).permute(2, 0, 1, 3)
    return outputs
