"""Masks as a value, name -> bool tensor: apply, hold, save, summarize, and examine for disconnected layers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from autosparse.api.batches import Examples, Signature
from autosparse.api.hold import Hold, copy_of, hold_zero, named_parameters, unwrap
from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import Finding, emptied, examine
from autosparse.core.layer_kinds import Kind, declare_layers
from autosparse.core.weights import describe_layers
from autosparse.errors import AutosparseError, MissingRequirement, UsageError
from autosparse.lazy_torch import torch
from autosparse.store import dump_tensors, load_tensors
from autosparse.store.files import drafted, write_through


class Masks(Mapping[str, "torch.Tensor"]):
    """Masks of a network's weights, immutable: parameter name -> bool tensor of its shape, True for kept weights.

    `unprunable` maps each parameter without a mask to the reason; `prune` sets it, files do not store it. Masks keep
    their model in memory, the one they were made for or last applied to; `Masks(masks)` is a copy without one.
    """

    def __init__(
        self,
        masks: Mapping[str, torch.Tensor],
        *,
        model: torch.nn.Module | None = None,
        unprunable: Mapping[str, str] | None = None,
        declared: Mapping[str, Kind] | None = None,
    ) -> None:
        for name, mask in masks.items():
            if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
                kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
                raise UsageError(f"the mask of {name} must be a bool tensor but is {kind}", "write `mask.bool()`")
        if not masks:
            raise UsageError("masks must name at least one weight", "such as {'fc.weight': mask}")
        self._masks = {name: mask.detach().clone() for name, mask in masks.items()}
        self._kept = {name: int(mask.count_nonzero()) for name, mask in self._masks.items()}
        self.unprunable = dict(unprunable or {})
        self._declared = dict(declared or {})
        self._model = None if model is None else unwrap(model)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        """Compare the kept weights, in any order and on any device."""
        if not isinstance(other, Masks):
            return NotImplemented
        return self.keys() == other.keys() and all(
            mask.shape == other[name].shape and torch.equal(mask.cpu(), other[name].cpu())
            for name, mask in self.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Masks({len(self)} weights, {self.kept:,} of {self.total:,} kept: sparsity {self.sparsity:.6g})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Masks:
        # A copy made together with its model belongs to the copied model.
        model = self._model
        home = memo.get(id(model), model)
        return Masks(self, model=home, unprunable=self.unprunable, declared=self._declared)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Masks, unprunable=self.unprunable, declared=self._declared), (self._masks,)

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        return sum(self._kept.values())

    @property
    def total(self) -> int:
        """Number of weights."""
        return sum(mask.numel() for mask in self.values())

    @property
    def sparsity(self) -> float:
        """Share of removed weights."""
        return 1 - self.kept / self.total

    def summary(self) -> Summary:
        """Return the kept weights per parameter: printed as a table, iterated as rows."""
        rows = [LayerSummary(name, tuple(mask.shape), self._kept[name], mask.numel()) for name, mask in self.items()]
        return Summary(tuple(rows), self.unprunable)

    def examine(self, x: Any = None, *, model: torch.nn.Module | None = None) -> tuple[Finding, ...]:
        """Return the disconnected parts before any training; each finding has a `kind`, `layers` and a `message`.

        `x` are inputs as the network takes them; only their shapes count. With `x`, two passes of one example through a
        float64 copy find every layer, branch and output that no path reaches. Without `x`, only layers with no kept
        weight are reported. `model` is by default the one that the masks were made for.
        """
        if x is None:
            return emptied(self._masks)
        plain = self._home(model)
        device = next(iter(plain.parameters())).device
        device = torch.device("cpu") if device.type == "mps" else device  # mps lacks float64
        copied = declare_layers(copy_of(plain).to(device), self._declared)
        return examine(evidence_of(copied, Examples([(x, x)], device, Signature(copied)), self))

    def apply(self, model: torch.nn.Module) -> None:
        """Zero the masked weights of a network in place, once; `hold` keeps them zero.

        The network may be compiled, parallel or an average. Raises UsageError, before any change, that names the masks
        that do not fit it.
        """
        weights = self._weights_of(unwrap(model))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.masked_fill_(~self[name].to(weight.device), 0)
        self._model = unwrap(model)

    def hold(self, *optimizers: torch.optim.Optimizer, model: torch.nn.Module | None = None) -> Hold:
        """Zero the masked weights and their gradients now and for as long as the hold is in force.

        Weights are zeroed after every step of their optimizers, before every forward pass in training mode, and when a
        state is loaded or read. Gradients are zeroed as they arrive, so that `clip_grad_norm_` and optimizers that act
        between steps (SAM) see none. Each step looks up its optimizer's weights: layers may be added or unfrozen.

        Args:
            optimizers: Optimizers of the model; each has at least one of its parameters. Wrappers with a `step` and
                `param_groups` are accepted.
            model: The model, by default the one that the masks were made for or last applied to.

        Returns:
            A handle whose `remove()` ends the hold; in a `with` statement the block does.

        Raises:
            UsageError: Before any change, for an object that is no optimizer of the model or masks that do not fit.

        An average of the model (EMA) created from now on keeps the zeros; `apply` the masks to an older one.
        """
        home = self._home(model)
        handle = hold_zero(home, self._weights_of(home), self, optimizers)
        self.apply(home)
        return handle

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file atomically. Raises MissingRequirement where it cannot be written."""
        target = Path(path)
        try:
            with drafted(target) as draft:
                write_through(draft, dump_tensors(self._masks))
        except OSError as error:
            raise MissingRequirement(
                f"{target} cannot be written: {error.strerror or error}", "name a file in a folder that exists"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Masks:
        """Read a file of `save`, on the CPU, ordered by name.

        Raises UsageError for a file that cannot be read, is damaged or holds no masks.
        """
        source = Path(path)
        try:
            tensors = load_tensors(source.read_bytes())
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror or error}", "name a file of masks") from error
        except ValueError as error:
            raise UsageError(f"{source} is damaged or no file of masks: {error}", "save the masks again") from error
        try:
            return cls(tensors)
        except AutosparseError as error:
            raise UsageError(f"{source} is no file of masks: {error.message}", "`Masks.save` writes one") from None

    def _home(self, model: torch.nn.Module | None) -> torch.nn.Module:
        home = unwrap(model) if model is not None else self._model
        if home is None:
            raise UsageError(
                "the masks do not know which model they hold",
                "call `masks.apply(model)` first, or `masks.hold(optimizer, model=model)`",
            )
        return home

    def _weights_of(self, plain: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        parameters = named_parameters(plain)
        problems: list[str] = []
        for name, mask in self.items():
            parameter = parameters.get(name)
            if parameter is None:
                problems.append(f"it has no parameter {name}")
            elif torch.nn.parameter.is_lazy(parameter):
                problems.append(f"{name} is built when it meets its first batch")
            elif parameter.shape != mask.shape:
                problems.append(f"{name} is {tuple(parameter.shape)} and its mask {tuple(mask.shape)}")
        if problems:
            more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise UsageError(
                f"the masks do not fit {type(plain).__name__}: {'; '.join(problems[:3])}{more}",
                "pass the network that was pruned, built as it was",
            )
        return {name: parameters[name] for name in self}


@dataclass(frozen=True)
class LayerSummary:
    """Size and kept weights of one parameter."""

    name: str
    shape: tuple[int, ...]
    kept: int
    total: int

    @property
    def sparsity(self) -> float:
        """Share of removed weights; 0 for a parameter without numbers."""
        return 1 - self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Summary:
    """Kept weights per parameter, and the reason for each parameter without a mask."""

    rows: tuple[LayerSummary, ...]
    unprunable: Mapping[str, str]

    def __iter__(self) -> Iterator[LayerSummary]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        every = LayerSummary("all", (), sum(row.kept for row in self), sum(row.total for row in self))
        cells = [("weight", "shape", "kept", "of", "sparsity")]
        cells += [
            (row.name, "x".join(map(str, row.shape)), f"{row.kept:,}", f"{row.total:,}", f"{row.sparsity:.4f}")
            for row in (*self, every)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) if index < 2 else cell.rjust(width) for index, (cell, width) in enumerate(pair))
            for pair in (zip(row, widths, strict=True) for row in cells)
        ]
        reasons = [f"{reason}: {count}" for reason, count in Counter(self.unprunable.values()).items()]
        return "\n".join([*lines, *([f"not prunable: {', '.join(reasons)}"] if reasons else [])])


def evidence_of(
    model: torch.nn.Module,
    examples: Examples,
    masks: Mapping[str, torch.Tensor],
    *,
    seed: int = 0,
    **others: Any,
) -> Evidence:
    """Return the evidence about a masked network, with `others` of its fields; weights without a mask stay whole."""
    generator = torch.Generator("cpu").manual_seed(seed)
    layers = describe_layers(model)
    dense = Evidence.dense(model, layers, examples.draw, generator, examples.example, stream=examples.stream, **others)
    return replace(dense, masks={name: masks.get(name, mask).to(mask.device) for name, mask in dense.masks.items()})
