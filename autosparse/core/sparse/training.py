"""Training under masks on a CPU, with convolutions computed from the remaining weights only.

Imported on first use, as it imports torch and numba (extra `sparse`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy

from autosparse.core.allocation import macs
from autosparse.core.sparse import kernels
from autosparse.core.torch_compat import narrow_stride_fix
from autosparse.core.weights import describe_layers, prunable_weights
from autosparse.lazy_torch import torch

Each: TypeAlias = Callable[..., None]
"""A call of a loop of `kernels` over a range, split over threads."""


def share_left(model: torch.nn.Module, masks: Mapping[str, torch.Tensor], example: torch.Tensor) -> float:
    """Return the share of a network's multiply-adds that masks (name -> bool) leave; `example` is a batch of one."""
    layers = describe_layers(model, example)
    kept = {layer.name: int(masks[layer.name].sum()) if layer.name in masks else layer.size for layer in layers}
    return macs(layers, kept) / max(1, macs(layers))


@contextmanager
def sparse_kernels(model: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> Iterator[torch.nn.Module]:
    """Yield `model`, whose convolutions inside the context use only the weights that `masks` (name -> bool) keep.

    Outputs and gradients are the same up to rounding, in float32; a gradient is zero where the mask is. The loops
    cover 2-D convolutions with zero padding and equal strides, BatchNorm in training mode and max pooling; torch
    computes the rest, in one thread. Results are identical at any number of threads.
    """
    weights = prunable_weights(model)
    left = {id(weights[name]): mask for name, mask in masks.items()}
    threads = torch.get_num_threads()
    changed: list[torch.nn.Module] = []
    torch.set_num_threads(1)  # torch's threads wait by spinning and would take the cores
    with ThreadPoolExecutor(threads) as pool:
        each = partial(_each, pool, threads)
        try:
            for module in model.modules():
                if (forward := _sparse_forward(module, left, each)) is not None:
                    module.forward = forward
                    changed.append(module)
            yield model
        finally:
            torch.set_num_threads(threads)
            for module in changed:
                del module.__dict__["forward"]


def _sparse_forward(
    module: torch.nn.Module, masks: Mapping[int, torch.Tensor], each: Each
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    # The forward pass of a module by the loops, if they support it.
    if "forward" in module.__dict__:
        return None
    if type(module) is torch.nn.MaxPool2d:
        return partial(_pool, module, each)
    weight = module._parameters.get("weight")
    if weight is None or weight.dtype != torch.float32:
        return None
    if isinstance(module, torch.nn.Conv2d) and _is_plain(type(module)):
        down, right = module.stride
        padding = (0, 0) if module.padding == "valid" else module.padding
        if module.padding_mode != "zeros" or down != right or isinstance(padding, str) or id(weight) not in masks:
            return None
        left = _Left(masks[id(weight)], padding, module.dilation, module.groups)
        return partial(_convolve, module, left, each)
    if type(module) is torch.nn.BatchNorm2d and module.bias is not None and module.running_mean is not None:
        return partial(_normalize, module, each) if module.momentum is not None else None
    return None


def _is_plain(kind: type[torch.nn.Conv2d]) -> bool:
    usual = (torch.nn.Conv2d._conv_forward, narrow_stride_fix.Conv2d._conv_forward)
    return kind.forward is torch.nn.Conv2d.forward and kind._conv_forward in usual


class _Left:
    """The remaining weights of a convolution `[outputs, inputs of a group, rows, columns]`, in the order of its loops.

    `at` are their indices in the weight, `first` the start of each output channel, `reads` the input channels, `down`
    and `right` the offsets. `inverse` holds the same by input channel, `order` the permutation to it.
    """

    def __init__(self, mask: torch.Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> None:
        self.padding = padding
        outputs, inputs = mask.shape[:2]
        o, c, row, column = (part.numpy() for part in mask.nonzero(as_tuple=True))
        order = numpy.lexsort((column, row, c, o))
        o, c, row, column = o[order], c[order], row[order], column[order]
        self.at = tuple(map(torch.from_numpy, (o, c, row, column)))
        self.reads = c + o // (outputs // groups) * inputs
        self.down, self.right = row * dilation[0] - padding[0], column * dilation[1] - padding[1]
        self.first = numpy.searchsorted(o, numpy.arange(outputs + 1))
        order = numpy.lexsort((self.right, self.down, o, self.reads))
        self.order = torch.from_numpy(order)
        first = numpy.searchsorted(self.reads[order], numpy.arange(inputs * groups + 1))
        self.inverse = first, o[order], -self.down[order], -self.right[order]


def _convolve(module: torch.nn.Conv2d, left: _Left, each: Each, x: torch.Tensor) -> torch.Tensor:
    outputs: torch.Tensor = _Convolution.apply(x, module.weight, left, module, each)
    return outputs if module.bias is None else outputs + module.bias.view(1, -1, 1, 1)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, left: _Left, module: torch.nn.Conv2d, each: Each
    ) -> torch.Tensor:
        images, stride = len(x), module.stride[0]
        inputs = _innermost(x)
        height, width = (
            (size + 2 * pad - step * (reach - 1) - 1) // stride + 1
            for size, pad, step, reach in zip(
                x.shape[2:], left.padding, module.dilation, module.kernel_size, strict=True
            )
        )
        values = weight[left.at]
        outputs = _empty(images, len(weight), height, width)
        each(
            kernels.convolve, height, inputs.numpy(), left.first, left.reads, left.down, left.right, values.numpy(),
            _innermost(outputs).numpy(), images, stride, 1,
        )  # fmt: skip
        ctx.save_for_backward(inputs, values)
        ctx.about = left, weight, x.shape, stride, each
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, values = ctx.saved_tensors
        left, weight, of, stride, each = ctx.about
        gradient = _innermost(gradients[0])
        of_values = torch.empty_like(values)
        each(
            kernels.gradient_of_weights, len(weight), inputs.numpy(), gradient.numpy(), left.first, left.reads,
            left.down, left.right, of_values.numpy(), of[0], stride,
        )  # fmt: skip
        of_weight = torch.zeros_like(weight)
        of_weight[left.at] = of_values
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = _empty(*of)
            each(
                kernels.convolve, of[2], gradient.numpy(), *left.inverse, values[left.order].numpy(),
                _innermost(of_inputs).numpy(), of[0], 1, stride,
            )  # fmt: skip
        return of_inputs, of_weight, None, None, None


def _normalize(module: torch.nn.BatchNorm2d, each: Each, x: torch.Tensor) -> torch.Tensor:
    if not module.training:
        return torch.nn.BatchNorm2d.forward(module, x)
    outputs: torch.Tensor = _Normalization.apply(x, module.weight, module.bias, module, each)
    return outputs


class _Normalization(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, module: torch.nn.BatchNorm2d, each: Each
    ) -> torch.Tensor:
        inputs = _innermost(x)
        mean, variance, outputs = torch.empty_like(scale), torch.empty_like(scale), _empty(*x.shape)
        each(
            kernels.normalize, len(scale), inputs.numpy(), scale.numpy(), shift.numpy(), module.eps, mean.numpy(),
            variance.numpy(), _innermost(outputs).numpy(),
        )  # fmt: skip
        count = inputs[0].numel()
        assert module.running_mean is not None
        assert module.running_var is not None
        assert module.num_batches_tracked is not None
        assert module.momentum is not None
        module.running_mean.lerp_(mean, module.momentum)
        module.running_var.lerp_(variance * (count / max(1, count - 1)), module.momentum)
        module.num_batches_tracked.add_(1)
        ctx.save_for_backward(inputs, scale, mean, variance)
        ctx.about = module.eps, x.shape, each
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, scale, mean, variance = ctx.saved_tensors
        epsilon, of, each = ctx.about
        of_scale, of_shift, of_inputs = torch.empty_like(scale), torch.empty_like(scale), _empty(*of)
        each(
            kernels.gradient_of_normalize, len(scale), inputs.numpy(), _innermost(gradients[0]).numpy(), scale.numpy(),
            epsilon, mean.numpy(), variance.numpy(), of_scale.numpy(), of_shift.numpy(),
            _innermost(of_inputs).numpy(),
        )  # fmt: skip
        return of_inputs, of_scale, of_shift, None, None


def _pool(module: torch.nn.MaxPool2d, each: Each, x: torch.Tensor) -> torch.Tensor:
    side = module.kernel_size if isinstance(module.kernel_size, int) else module.kernel_size[0]
    usual = module.kernel_size in (side, (side, side)) and module.stride in (side, (side, side))
    plain = module.padding in (0, (0, 0)) and module.dilation in (1, (1, 1)) and not module.return_indices
    fits = not module.ceil_mode or not (x.shape[2] % side or x.shape[3] % side)
    if not (usual and plain and fits and x.ndim == 4):
        other: torch.Tensor = torch.nn.MaxPool2d.forward(module, x)
        return other
    outputs: torch.Tensor = _Pooling.apply(x, side, each)
    return outputs


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, side: int, each: Each) -> torch.Tensor:
        images, channels, height, width = x.shape
        inputs, outputs = _innermost(x), _empty(images, channels, height // side, width // side)
        each(kernels.pool, channels, inputs.numpy(), _innermost(outputs).numpy(), images, side)
        ctx.save_for_backward(inputs, outputs)
        ctx.about = x.shape, side, each
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, outputs = ctx.saved_tensors
        of, side, each = ctx.about
        of_inputs = _empty(*of)
        each(
            kernels.gradient_of_pool, of[1], inputs.numpy(), _innermost(outputs).numpy(),
            _innermost(gradients[0]).numpy(), _innermost(of_inputs).numpy(), of[0], side,
        )  # fmt: skip
        return of_inputs, None, None


def _innermost(x: torch.Tensor) -> torch.Tensor:
    # `[images, channels, height, width]` as `[channels, height, width * images]`, float32.
    _, channels, height, _ = x.shape
    return x.permute(1, 2, 3, 0).float().contiguous().view(channels, height, -1)


def _empty(images: int, channels: int, height: int, width: int) -> torch.Tensor:
    # In that layout, which later elementwise operations keep.
    row = width * images
    return torch.empty_strided((images, channels, height, width), (1, height * row, row, images))


def _each(pool: ThreadPoolExecutor, threads: int, loop: Callable[..., None], count: int, *arguments: Any) -> None:
    parts = min(threads, count)
    if parts == 1:
        loop(0, count, *arguments)
        return
    ends = [count * part // parts for part in range(parts + 1)]
    for done in [pool.submit(loop, begin, end, *arguments) for begin, end in pairwise(ends)]:
        done.result()
