"""What a criterion may look at: a network at initialization and, if it asks, training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from autosparse.core.features import Features
from autosparse.core.weights import Layer, Tensors, in_mode, prunable_weights
from autosparse.lazy import torch

Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"


@dataclass(frozen=True)
class Evidence:
    """A network at initialization under its present masks.

    `weights` are the prunable weights times the masks, `masks` the weights still present (1) or pruned
    (0), both name -> tensor in model order. `draw(images)` gives fresh training batches `(inputs, labels)`.
    `predict` is a trained scorer, where the method has one.
    """

    model: torch.nn.Module
    weights: Tensors
    masks: Tensors
    layers: tuple[Layer, ...]
    draw: Callable[[int], Sequence[Batch]]
    generator: torch.Generator
    input_shape: tuple[int, ...]
    predict: Callable[[Features], Tensors] | None = None

    def masked(self, masks: Mapping[str, torch.Tensor]) -> Evidence:
        """The same network under other masks."""
        initial = {name: weight.detach() for name, weight in prunable_weights(self.model).items()}
        return replace(
            self, masks=dict(masks), weights={name: weight * masks[name] for name, weight in initial.items()}
        )

    def loss(self, weights: Tensors, batch: Batch, temperature: float = 1.0) -> torch.Tensor:
        """Mean cross-entropy of one batch, logits divided by `temperature`, BatchNorm on batch statistics."""
        inputs, labels = batch
        return torch.nn.functional.cross_entropy(self._outputs(weights, inputs) / temperature, labels)

    def gradient(self, weights: Tensors, batches: Sequence[Batch], temperature: float = 1.0) -> Tensors:
        """Gradient of the mean loss over the batches, with the memory of one."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        total = {name: torch.zeros_like(weight) for name, weight in leaves.items()}
        images = sum(len(labels) for _, labels in batches)
        for batch in batches:
            loss = self.loss(leaves, batch, temperature) * (len(batch[1]) / images)
            for name, part in gradient_of(loss, leaves).items():
                total[name] += part
        return total

    def flow(self, weights: Tensors, *, paths_only: bool = False) -> torch.Tensor:
        """Sum of the outputs of the linear positive network on an input of ones (SynFlow, eq. 2).

        Every parameter other than `weights` and every running statistic enters as its absolute value;
        BatchNorm uses running statistics. In the precision of `weights`. With `paths_only` biases are
        zero and scales one, so that what reaches the output came from the input.
        """
        precision = next(iter(weights.values())).dtype
        rest = {
            name: _positive(name, tensor, paths_only).to(precision) if tensor.is_floating_point() else tensor
            for name, tensor in self._rest().items()
        }
        ones = torch.ones((1, *self.input_shape), dtype=precision, device=next(iter(weights.values())).device)
        with _averaging_pools() if paths_only else nullcontext():
            return self._call({**rest, **weights}, ones, training=False).sum()

    def _rest(self) -> Tensors:
        # Copies: BatchNorm in training mode would otherwise move the model's own running statistics. Not the
        # state dict: it holds tied weights twice and leaves out buffers that are not saved.
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        # By identity: a layer's weight that is tied to an embedding goes by the embedding's name here.
        prunable = {id(weight) for weight in prunable_weights(self.model).values()}
        return {name: tensor.detach().clone() for name, tensor in own.items() if id(tensor) not in prunable}

    def _outputs(self, weights: Tensors, inputs: torch.Tensor) -> torch.Tensor:
        return self._call({**self._rest(), **weights}, inputs, training=True)

    def _call(self, state: Tensors, inputs: torch.Tensor, *, training: bool) -> torch.Tensor:
        with in_mode(self.model, training=training):
            output: torch.Tensor = torch.func.functional_call(self.model, state, (inputs,))
            return output


def gradient_of(value: torch.Tensor, leaves: Tensors, *, differentiable: bool = False) -> Tensors:
    """The gradient of a number in named tensors: zero for those that it does not depend on."""
    parts = torch.autograd.grad(
        value, list(leaves.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, parts, strict=True))


def _positive(name: str, tensor: torch.Tensor, paths_only: bool) -> torch.Tensor:
    if paths_only and name.endswith(("bias", "running_mean")):
        return torch.zeros_like(tensor)
    if paths_only and tensor.ndim == 1:
        return torch.ones_like(tensor)
    return tensor.detach().abs()


def _averaging_pools() -> AbstractContextManager[object]:
    # The gradient of max pooling names one position, but any may be the highest: every one is a path.
    functional = torch.nn.functional
    names = [f"{kind}pool{n}d" for n in (1, 2, 3) for kind in ("max_", "adaptive_max_")]
    averages = {name: getattr(functional, name.replace("max", "avg")) for name in names}
    options = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")

    class Averaging(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, kwargs = getattr(function, "__name__", ""), kwargs or {}
            if name not in averages or kwargs.get("return_indices"):
                return function(*args, **kwargs)
            if name.startswith("adaptive"):
                return averages[name](args[0], args[1] if len(args) > 1 else kwargs["output_size"])
            given = {**dict(zip(options, args, strict=False)), **kwargs}
            return averages[name](**{key: given[key] for key in options if key in given and key != "dilation"})

    return Averaging()
