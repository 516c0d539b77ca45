"""The one training loop that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

from autosparse.borders import optional
from autosparse.core.images import Images, batch_sizes, epoch
from autosparse.core.torch_compat.memory_layout import lay_out
from autosparse.core.torch_compat.random_state import global_states, restore_global_states
from autosparse.core.training.flat_parameters import flatten_masks, flatten_parameters
from autosparse.core.training.optimizers import Update, update_rule
from autosparse.core.training.recipe import Recipe, learning_rate, training_steps_of
from autosparse.core.training.sign_in import SignIn
from autosparse.core.training.torch_compile import Forward, compiled
from autosparse.core.training.under_masks import rescale_weights
from autosparse.core.training.updates import Change, MaskUpdates, Moment
from autosparse.core.weights import Tensors, full_masks, prunable_weights, state_of
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


class Checkpoint(Protocol):
    """The saved state of a training, which an interrupted one continues from."""

    @property
    def is_due(self) -> bool: ...
    def load(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None: ...
    def save(self, value: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None: ...


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
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Train `model` in place and return the mean training loss of every epoch.

    Steps before `begin` and from `end` on are skipped, with their batches. `masks` (name -> bool, as of
    `prunable_weights`) hold after every step, despite momentum and weight decay. The batches depend on the generator
    alone: every method at a seed sees the same images in the same order. Raises ValueError for a mask of no prunable
    weight. The recipe's `rescale` applies to initial weights: under masks, and with `begin` 0. Its `reparameterization`
    applies under masks; the network sees products, never their factors, which balance at the start of every epoch.

    A `team` averages its gradients in every step (data-parallel training); the batch size is the recipe's. BatchNorm
    uses the statistics of each share, and at the end averages the running ones.

    With a `checkpoint` an interrupted training continues where it was saved last, with the same results; a team starts
    again.
    """
    if masks is not None and not begin:
        rescale_weights(model, masks, recipe.rescale)
    training = _Training(model, images, recipe, masks, None, team)
    return training.run(generator, begin, end, observe, checkpoint)


@dataclass(frozen=True)
class SparseTraining:
    """A training whose masks changed: the mean loss of every epoch, the last masks, and every change."""

    losses: list[float]
    masks: Tensors
    changes: tuple[Change, ...]


def train_sparse(
    model: torch.nn.Module,
    images: Images,
    recipe: Recipe,
    generator: torch.Generator,
    updates: MaskUpdates,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    observe: Observe = lambda *_: None,
    team: Team | None = None,
    checkpoint: Checkpoint | None = None,
) -> SparseTraining:
    """Train `model` in place as `train` does, while `updates` change its masks; without `masks` it starts dense.

    Weights that grow start from zero, and so does their optimizer state. With several cycles the recipe repeats. Its
    `rescale` scales the weights of the first masks once.
    """
    present = full_masks(prunable_weights(model)) if masks is None else masks
    rescale_weights(model, present, recipe.rescale)
    training = _Training(model, images, recipe, present, updates, team)
    losses = training.run(generator, 0, None, observe, checkpoint)
    return SparseTraining(losses, training.masks, tuple(training.changes))


@dataclass(frozen=True)
class _Reached:
    # The point that a training has reached: epoch, next step, the shuffle's state at the epoch's beginning, the losses.
    epoch: int
    step: int
    shuffle: torch.Tensor
    total: torch.Tensor
    seen: float = 0.0
    losses: tuple[float, ...] = ()

    @classmethod
    def first(cls, generator: torch.Generator, begin: int, device: torch.device) -> Self:
        return cls(0, begin, generator.get_state(), torch.zeros((), device=device))


class _Training:
    # One training: the network's parameters as one vector, its optimizer, masks and kernels.

    def __init__(
        self,
        model: torch.nn.Module,
        images: Images,
        recipe: Recipe,
        masks: Mapping[str, torch.Tensor] | None,
        updates: MaskUpdates | None,
        team: Team | None,
    ) -> None:
        self._model, self._images, self._recipe = model, lay_out(model, images), recipe
        self._updates, self._team = updates, team
        device = next(model.parameters()).device
        self.masks: Tensors = {name: mask.bool().to(device) for name, mask in (masks or {}).items()}
        self.changes: list[Change] = []
        model.train()
        self._flat = flatten_parameters(model, channels_last=self._channels_last)
        self._present = None if masks is None else self._flattened(masks)
        if self._present is not None:
            self._flat.data.mul_(self._present)
        if team is not None:
            team.lead(self._flat.data)
            if self._present is not None:
                team.lead(self._present)
        self._optimizer: Update | SignIn = update_rule([self._flat], recipe)
        if recipe.reparameterization == "sign_in" and self._present is not None:
            prunable = self._flattened(full_masks(self.masks), otherwise=False)
            self._optimizer = SignIn(self._flat, recipe, prunable, self._present)
        self._kernels = ExitStack()
        self._forward: Forward = model

    def run(
        self,
        generator: torch.Generator,
        begin: int,
        end: int | None,
        observe: Observe,
        checkpoint: Checkpoint | None,
    ) -> list[float]:
        """Take the steps from `begin` to `end`, and return the mean loss of every epoch."""
        checkpoint = checkpoint if self._team is None else None
        reached = _Reached.first(generator, begin, self._flat.device)
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            reached = self._restored(*saved, generator)
        with self._kernels:
            self._open_kernels()
            losses = self._epochs(generator, reached, end, observe, checkpoint)
        if self._team is not None:
            for buffer in self._model.buffers():
                if buffer.is_floating_point():
                    self._team.mean(buffer)
        return losses

    def _epochs(
        self,
        generator: torch.Generator,
        reached: _Reached,
        end: int | None,
        observe: Observe,
        checkpoint: Checkpoint | None,
    ) -> list[float]:
        recipe, cycles = self._recipe, self._updates.cycles if self._updates else 1
        cycle, batches = training_steps_of(recipe, len(self._images)), len(batch_sizes(len(self._images), recipe.batch))
        steps = cycles * cycle
        stop = steps if end is None else min(end, steps)
        epochs = math.ceil(steps / batches)
        at = reached
        for done in range(reached.epoch, epochs):
            step = done * batches
            if done > reached.epoch:
                at = replace(at, epoch=done, shuffle=generator.get_state(), total=torch.zeros_like(at.total), seen=0.0)
            for inputs, labels in epoch(
                self._images, batch=recipe.batch, crop=recipe.crop, flip=recipe.flip, cutout=recipe.cutout,
                generator=generator,
            ):  # fmt: skip
                if step >= stop:
                    break
                if step < reached.step:
                    step += 1
                    continue
                if isinstance(self._optimizer, SignIn) and step % batches == 0:
                    self._optimizer.balance()
                self._optimizer.lr = recipe.lr * learning_rate(recipe, step % cycle / cycle)
                loss, count = self._step(inputs, labels, step, steps)
                step += 1
                at = replace(at, step=step, total=at.total + loss * count, seen=at.seen + count)
                if checkpoint is not None and checkpoint.is_due:
                    checkpoint.save(*self._saved(at))
            if at.seen:
                at = replace(at, losses=(*at.losses, _mean_loss(at.total, at.seen, self._team)))
            observe(done + 1, epochs, at.losses[-1] if at.seen else None)
            if step >= stop:
                break
        return [*at.losses]

    def _saved(self, at: _Reached) -> tuple[dict[str, Any], Tensors]:
        # The state after a step, as a JSON value and tensors.
        kept = {
            f"{number}.{index}": tensor
            for number, tensors in enumerate(self._optimizer.state)
            for index, tensor in enumerate(tensors)
            if tensor is not None
        }
        drawn, others = global_states()
        parts = {
            "weights": {"flat": self._flat.detach()},
            "optimizer": kept,
            "buffer": dict(self._model.named_buffers()),
            "mask": self.masks if self._updates is not None else {},
            "random": {"shuffle": at.shuffle, **drawn, **self._drawn()},
            "loss": {"total": at.total},
        }
        value = {
            "epoch": at.epoch, "step": at.step, "seen": at.seen, "losses": [*at.losses], "random": others,
            "changes": [[change.step, change.kept, change.grown] for change in self.changes],
        }  # fmt: skip
        return value, {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def _drawn(self) -> Tensors:
        rule = self._updates.generator if self._updates is not None else None
        return {} if rule is None else {"rule": rule.get_state()}

    def _restored(self, value: dict[str, Any], tensors: Tensors, generator: torch.Generator) -> _Reached:
        parts: dict[str, Tensors] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = tensor
        device = self._flat.device
        with torch.no_grad():
            self._flat.copy_(parts["weights"]["flat"])
            for name, buffer in self._model.named_buffers():
                buffer.copy_(parts["buffer"][name])
        for name, tensor in parts.get("optimizer", {}).items():
            number, _, index = name.partition(".")
            self._optimizer.state[int(number)][int(index)] = tensor.to(device)
        if self._updates is not None:
            self.masks = {name: mask.to(device) for name, mask in parts["mask"].items()}
            self._present = self._flattened(self.masks)
            if isinstance(self._optimizer, SignIn):
                self._optimizer.hold(self._present)
            self.changes = [Change(*change) for change in value["changes"]]
            if self._updates.generator is not None:
                self._updates.generator.set_state(parts["random"]["rule"])
        restore_global_states(parts["random"], value["random"])
        generator.set_state(parts["random"]["shuffle"])
        return _Reached(
            value["epoch"], value["step"], parts["random"]["shuffle"], parts["loss"]["total"].to(device),
            value["seen"], tuple(value["losses"]),
        )  # fmt: skip

    def _step(self, inputs: torch.Tensor, labels: torch.Tensor, step: int, steps: int) -> tuple[torch.Tensor, float]:
        # One step on a batch: the mean loss of this member's share, and the images it counts for.
        updates = self._updates if self._updates is not None and self._updates.due(step, steps) else None
        if updates is not None and self._recipe.kernels == "sparse":
            self._close_kernels()  # they leave out the gradients of masked weights
        loss, count = self._backward(inputs, labels)
        if updates is None or not updates.replaces_step:
            self._optimizer.step()
            if self._present is not None:
                self._flat.data.mul_(self._present)
        if updates is not None:
            self._change(updates, step, steps)
        return loss, count

    def _backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
        recipe, team, gradient, whole = self._recipe, self._team, self._flat.grad, len(labels)
        assert gradient is not None
        if team is not None:
            inputs, labels = _share(inputs, team), _share(labels, team)
        with autocast(self._flat.device, recipe.precision):
            outputs = self._forward(inputs)
        loss = torch.nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=recipe.label_smoothing)
        gradient.zero_()
        count: float = len(labels)
        if team is None:
            loss.backward()
        else:  # every image weighs the same, whatever the size of its share
            count = len(labels) if len(labels) < whole else whole / team.size
            (loss * (count * team.size / whole)).backward()
            team.mean(gradient)
        return loss.detach(), count

    def _change(self, updates: MaskUpdates, step: int, steps: int) -> None:
        weights = prunable_weights(self._model)
        values = {name: weight.detach() for name, weight in weights.items()}
        gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
        masks = updates.change(Moment(step, steps, values, gradients, self.masks, partial(state_of, self._model)))
        grown = {name: mask & ~self.masks[name] for name, mask in masks.items()}
        self.masks = masks
        self._present = self._flattened(masks)
        self._flat.data.mul_(self._present)
        fresh = self._flattened(grown, otherwise=False)
        for tensors in self._optimizer.state:
            for tensor in tensors:
                if tensor is not None and tensor.shape == fresh.shape:
                    tensor.masked_fill_(fresh.bool(), 0)
        if isinstance(self._optimizer, SignIn):
            self._optimizer.hold(self._present)
            self._optimizer.balance()
        kept, counts = (sum(int(mask.count_nonzero()) for mask in some.values()) for some in (masks, grown))
        self.changes.append(Change(step, kept, counts))
        if self._recipe.kernels == "sparse":
            self._open_kernels()

    @property
    def _channels_last(self) -> bool:
        return not self._images.contiguous

    def _flattened(self, masks: Mapping[str, torch.Tensor], *, otherwise: bool = True) -> torch.Tensor:
        return flatten_masks(self._model, self._flat, masks, channels_last=self._channels_last, otherwise=otherwise)

    def _open_kernels(self) -> None:
        masks = self.masks if self._present is not None and self._team is None else None
        self._close_kernels()
        self._forward = self._kernels.enter_context(_kernels(self._model, self._images, self._recipe, masks))

    def _close_kernels(self) -> None:
        self._kernels.close()
        self._forward = self._model


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


def accuracy(model: torch.nn.Module, images: Images, precision: str, *, batch: int = 1000) -> float:
    """Return the share of the images whose highest output is their label, in percent, with running statistics."""
    correct = 0
    images = lay_out(model, images)
    model.eval()
    with torch.no_grad(), autocast(images.labels.device, precision):
        for inputs, labels in images.in_order(batch):
            correct += int((model(inputs).argmax(dim=1) == labels).sum())
    return 100 * correct / len(images)


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
