"""Tickets: initial weights with an order of all prunable weights, and their transfer to other networks of a family."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.core.irp import survival_order
from autosparse.core.weights import Tensors, together
from autosparse.lazy_torch import torch
from autosparse.text import listed

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Ticket:
    """Initial weights with an order of the prunable ones, whose highest are the mask of any sparsity.

    Attributes:
        state: Every parameter and buffer at initialization, or at the step that rounds rewind to.
        order: Positions of the prunable weights among all, name -> integers in the weight's shape; higher is kept.
        classes: Number of classes of the network that it was found on.
        notes: Sentences about what a network of another depth or width takes of it.
    """

    state: Tensors
    order: Tensors
    classes: int
    notes: tuple[str, ...] = ()

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Ticket:
        """Return the part of the ticket that fits a network, in its shapes; `state` is the network's own.

        A tensor comes from the one of the same name. Deeper networks repeat the blocks of a sequence but its first in
        turn; in wider and narrower ones the channels repeat, and the values keep the variance of their sums. Tensors of
        another kernel are left out, and so is the head of a network for another number of classes.

        Args:
            state: Parameters and buffers of the network at its initialization.

        Returns:
            The tensors of the ticket for it, each in the shape, dtype and device of the network's.

        References:
            Depth: Chen et al. 2021, "The Elastic Lottery Ticket Hypothesis", arXiv 2103.16547.
        """
        values: Tensors = {}
        order: Tensors = {}
        repeated, resized = [], []
        for name, target in state.items():
            source = source_of(name, self.state)
            if source is None or not _resembles(self.state[source], target):
                continue
            if self.state[source].shape[:1] == (self.classes,) != target.shape[:1]:
                continue  # its outputs are classes
            values[name] = _resized(self.state[source], target, scale=source in self.order)
            repeated += [name] if source != name else []
            resized += [name] if self.state[source].shape != target.shape else []
            if source in self.order:
                order[name] = _tiled(self.order[source], target.shape).to(target.device)
        notes = {
            "the ticket is of another depth, so blocks of it repeat": repeated,
            "the ticket is of another width, so channels of it repeat or are left out": resized,
        }
        return Ticket(
            values, order, self.classes, tuple(f"{note}: {listed(names)}" for note, names in notes.items() if names)
        )


def in_order(rounds: list[tuple[Tensors, Tensors]]) -> Tensors:
    """Return the position of every weight among all, 0 for the first to leave, from the masks and scores of rounds.

    The first round, or stage of a search, comes first. Positions are int32, or int64 beyond its range, all different.
    """
    return together(survival_order(rounds), _positions)


def _positions(values: torch.Tensor) -> torch.Tensor:
    kind = torch.int32 if values.numel() <= torch.iinfo(torch.int32).max else torch.int64
    positions = torch.empty(values.shape, dtype=kind)
    positions[values.argsort(stable=True, descending=True).flip(0)] = torch.arange(values.numel(), dtype=kind)
    return positions


def source_of(name: str, known: Mapping[str, torch.Tensor]) -> str | None:
    """Return the tensor that another network's tensor comes from: of the same name, or of an earlier block.

    A block of a sequence beyond its end is one of those after the first, in turn.

    Examples:
        >>> known = dict.fromkeys(("stage.0.weight", "stage.1.weight", "stage.2.weight"))
        >>> [source_of(f"stage.{number}.weight", known) for number in (2, 3, 4)]
        ['stage.2.weight', 'stage.1.weight', 'stage.2.weight']
    """
    if name in known:
        return name
    for number in reversed([*_NUMBER.finditer(name)]):
        before, after = name[: number.start()], name[number.end() :]
        length = 0
        while f"{before}{length}{after}" in known:
            length += 1
        if length > 1 and int(number[0]) >= length:
            return f"{before}{1 + (int(number[0]) - 1) % (length - 1)}{after}"
    return None


def _resembles(source: torch.Tensor, target: torch.Tensor) -> bool:
    # Of the same kernel: only channels may differ.
    return source.ndim == target.ndim and source.shape[2:] == target.shape[2:] and source.dtype == target.dtype


def _resized(source: torch.Tensor, target: torch.Tensor, *, scale: bool) -> torch.Tensor:
    values = _tiled(source, target.shape).to(target.device)
    if scale and target.ndim > 1 and source.shape[1] != target.shape[1]:
        values = values * math.sqrt(source.shape[1] / target.shape[1])
    return values


def _tiled(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    # Channels beyond the end repeat from the first.
    for axis, size in enumerate(shape[:2]):
        index = torch.arange(size, device=tensor.device) % tensor.shape[axis]
        tensor = tensor.index_select(axis, index) if size != tensor.shape[axis] else tensor
    return tensor.clone()
