"""The one training loop that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from autosparse.borders import optional
from autosparse.core.images import Images, epoch
from autosparse.core.torch_compat.memory_layout import flattened, in_shape, lay_out
from autosparse.core.training.optimizers import Update, adam, sgd
from autosparse.core.training.recipe import Recipe, learning_rate, training_steps_of
from autosparse.core.training.torch_compile import Forward, compiled
from autosparse.core.weights import prunable_weights
from autosparse.lazy_torch import torch

FEW = 0.0625
"""The largest share of multiply-adds at which sparse kernels are faster, at any precision of dense ones and any number
of threads: measured on ResNet-20, ResNet-18 and a VGG (benchmarks/)."""

_LEAST = 2  # images that batch normalization needs

Observe = Callable[..., None]
"""A callback with epochs done, total epochs, and the mean loss of the last one."""


class Team(Protocol):
    """Processes that train one network together: each takes its share of every batch and has the same weights."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def mean(self, tensor: torch.Tensor) -> None: ...
    def lead(self, tensor: torch.Tensor) -> None: ...


def train(
    model: torch.nn.Module,
    images: Images,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    begin: int = 0,
    end: int | None = None,
    observe: Observe = lambda *_: None,
    team: Team | None = None,
) -> list[float]:
    """Train `model` in place and return the mean training loss of every epoch.

    Steps before `begin` and from `end` on are skipped, with their batches. `masks` (name -> bool, as of
    `prunable_weights`) hold after every step, despite momentum and weight decay. The batches depend on the generator
    alone: every method at a seed sees the same images in the same order. Raises ValueError for a mask of no prunable
    weight.

    A `team` averages its gradients in every step (data-parallel training); the batch size is the recipe's. BatchNorm
    uses the statistics of each share, and at the end averages the running ones.
    """
    images = lay_out(model, images)
    model.train()
    flat = _flatten(model, channels_last=not images.contiguous)
    present = None if masks is None else _flat_mask(model, flat, masks, channels_last=not images.contiguous)
    if present is not None:
        flat.data.mul_(present)
    if team is not None:
        team.lead(flat.data)
        if present is not None:
            team.lead(present)
    with _kernels(model, images, recipe, masks if team is None else None) as forward:
        history = _epochs(forward, flat, images, recipe, generator, present, begin, end, observe, team)
    if team is not None:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                team.mean(buffer)
    return history


def _kernels(
    model: torch.nn.Module, images: Images, recipe: Recipe, masks: Mapping[str, torch.Tensor] | None
) -> AbstractContextManager[Forward]:
    # The network's forward pass while it trains.
    if recipe.kernels == "compiled":
        return compiled(model)
    if masks is None or recipe.kernels == "dense" or images.labels.device.type != "cpu":
        return nullcontext(model)
    with optional("numba", purpose="`training.kernels: sparse`", install="'autosparse[sparse]'"):
        from autosparse.core.sparse.training import share_left, sparse_kernels
    example, _ = next(images.in_order(1))
    return sparse_kernels(model, masks) if share_left(model, masks, example) <= FEW else nullcontext(model)


def _epochs(
    forward: Forward,
    flat: torch.nn.Parameter,
    images: Images,
    recipe: Recipe,
    generator: torch.Generator,
    present: torch.Tensor | None,
    begin: int,
    end: int | None,
    observe: Observe,
    team: Team | None,
) -> list[float]:
    optimizer = update_rule(flat, recipe)
    steps = training_steps_of(recipe, len(images))
    stop = steps if end is None else min(end, steps)
    step = 0
    epochs = math.ceil(recipe.epochs)
    history: list[float] = []
    for done in range(epochs):
        total, seen = torch.zeros((), device=flat.device), 0.0
        for inputs, labels in epoch(
            images, batch=recipe.batch, crop=recipe.crop, flip=recipe.flip, cutout=recipe.cutout, generator=generator
        ):
            if step >= stop:
                break
            if step < begin:
                step += 1
                continue
            optimizer.lr = recipe.lr * learning_rate(recipe, step / steps)
            whole = len(labels)
            if team is not None:
                inputs, labels = _share(inputs, team), _share(labels, team)
            with autocast(flat.device, recipe.precision):
                outputs = forward(inputs)
            loss = torch.nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=recipe.label_smoothing)
            assert flat.grad is not None
            flat.grad.zero_()
            count: float = len(labels)
            if team is None:
                loss.backward()
            else:  # every image weighs the same, whatever the size of its share
                count = len(labels) if len(labels) < whole else whole / team.size
                (loss * (count * team.size / whole)).backward()
                team.mean(flat.grad)
            optimizer.step()
            if present is not None:
                flat.data.mul_(present)
            total += loss.detach() * count
            seen += count
            step += 1
        if seen:
            history.append(_mean_loss(total, seen, team))
        observe(done + 1, epochs, history[-1] if seen else None)
        if step >= stop:
            break
    return history


def accuracy(model: torch.nn.Module, images: Images, precision: str, *, batch: int = 1000) -> float:
    """Return the share of the images whose highest output is their label, in percent, with running statistics."""
    correct = 0
    images = lay_out(model, images)
    model.eval()
    with torch.no_grad(), autocast(images.labels.device, precision):
        for inputs, labels in images.in_order(batch):
            correct += int((model(inputs).argmax(dim=1) == labels).sum())
    return 100 * correct / len(images)


def update_rule(flat: torch.nn.Parameter, recipe: Recipe) -> Update:
    """Return the recipe's optimizer over one vector of parameters."""
    # Fused: one pass over the vector instead of three.
    shared: dict[str, Any] = {"weight_decay": recipe.weight_decay, "fused": flat.device.type in ("cpu", "cuda")}
    if recipe.optimizer == "adamw":
        return adam([flat], recipe.lr, **shared)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return sgd([flat], recipe.lr, momentum=recipe.momentum, nesterov=nesterov, **shared)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a forward pass has a recipe's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _share(batch: torch.Tensor, team: Team) -> torch.Tensor:
    # The share of one member; every member takes the whole of a batch that is too small to share.
    return batch if len(batch) < _LEAST * team.size else batch.tensor_split(team.size)[team.rank]


def _mean_loss(total: torch.Tensor, seen: float, team: Team | None) -> float:
    if team is None:
        return float(total) / seen
    both = torch.stack([total, torch.tensor(seen, device=total.device)])
    team.mean(both)
    return float(both[0] / both[1])


def _flatten(model: torch.nn.Module, *, channels_last: bool) -> torch.nn.Parameter:
    # All parameters become views of one vector, and their gradients views of another: the optimizer,
    # the masks and clearing gradients are then one call each instead of one per tensor.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.nn.Parameter(torch.cat([flattened(parameter, channels_last) for parameter in parameters]).detach())
    flat.grad = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, gradient in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        parameter.data = in_shape(values, parameter.shape, channels_last)
        parameter.grad = in_shape(gradient, parameter.shape, channels_last)
    return flat


def _flat_mask(
    model: torch.nn.Module, flat: torch.nn.Parameter, masks: Mapping[str, torch.Tensor], *, channels_last: bool
) -> torch.Tensor:
    weights = prunable_weights(model)
    if unknown := masks.keys() - weights.keys():
        raise ValueError(f"masks of weights that are not prunable: {', '.join(sorted(unknown))}")
    # By identity: a tied weight has another name among the model's parameters.
    present = {id(weights[name]): mask.to(flat.device) for name, mask in masks.items()}
    parts = [
        flattened(present[id(parameter)], channels_last).to(flat.dtype)
        if id(parameter) in present
        else torch.ones(parameter.numel(), dtype=flat.dtype, device=flat.device)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    return torch.cat(parts)
