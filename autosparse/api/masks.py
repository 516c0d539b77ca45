"""Masks as a value, name -> bool tensor: apply, hold, save, summarize, and examine for disconnected layers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from autosparse.api.batches import Examples, Signature
from autosparse.api.hold import Hold, copy_of, hold_zero, unwrap
from autosparse.api.masked_weights import find_weights, sharded_weight
from autosparse.api.trainers import callback_for
from autosparse.backends import fitting_threads
from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import Finding, emptied, examine
from autosparse.core.graph.slicing import Slicing, from_named, named
from autosparse.core.layer_kinds import Kind, declare_layers
from autosparse.core.weights import describe_layers
from autosparse.errors import AutosparseError, MissingRequirement, UsageError
from autosparse.lazy_torch import torch
from autosparse.regular_file import read_regular
from autosparse.store import dump_tensors, load_tensors
from autosparse.store.files import drafted, sweep, write_through

_STRUCTURE, _CHANNELS = "autosparse/", "channels/"
"""Names of tensors in a file of masks that are no masks"""


class Masks(Mapping[str, "torch.Tensor"]):
    """Masks of a network's weights, immutable: parameter name -> bool tensor of its shape, True for kept weights.

    Masks keep their model in memory, the one they were made for or last applied to; `Masks(masks)` is a copy without
    one.

    Args:
        masks: Parameter name -> bool tensor of the weight's shape, True for kept weights; tensors are copied.
        model: Network of the masks, for `hold` and `examine`.
        unprunable: Parameter without a mask -> reason; `prune` sets it, files do not store it.
        declared: Weight of a custom layer -> axes, as `prunable` of `prune`.
        slicing: Smaller network of masks that remove whole channels; `prune` sets it, and files store it.
        channels: Group of coupled channels -> positions of those kept, of such masks.

    Raises:
        UsageError: If a mask is not a bool tensor, or there are none.

    Examples:
        >>> masks = Masks({"weight": torch.tensor([[True, False]])})
        >>> masks.kept, masks.total, masks.sparsity
        (1, 2, 0.5)
        >>> model = torch.nn.Linear(2, 1)
        >>> masks.apply(model)
        >>> model.weight[0, 1].item()
        0.0
    """

    def __init__(
        self,
        masks: Mapping[str, torch.Tensor],
        *,
        model: torch.nn.Module | None = None,
        unprunable: Mapping[str, str] | None = None,
        declared: Mapping[str, Kind] | None = None,
        slicing: Slicing | None = None,
        channels: Mapping[str, Sequence[int]] | None = None,
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
        if isinstance(masks, Masks) and slicing is None:
            slicing, channels = masks.slicing, masks.channels
        self.slicing: Slicing | None = slicing
        self.channels: dict[str, tuple[int, ...]] = {name: tuple(at) for name, at in (channels or {}).items()}
        self._model = None if model is None else unwrap(model)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        """Compare the kept weights, in any order of the names and on any device."""
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
        return Masks(self, model=home, **self._about())

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Masks, **self._about()), (self._masks,)

    def _about(self) -> dict[str, Any]:
        about = {"unprunable": self.unprunable, "declared": self._declared}
        return {**about, "slicing": self.slicing, "channels": self.channels}

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
        """Fraction of removed weights, in [0, 1]."""
        return 1 - self.kept / self.total

    def replaced(self, masks: Mapping[str, torch.Tensor]) -> Masks:
        """Return other masks of the same weights of the same model.

        Args:
            masks: Parameter name -> bool tensor of the weight's shape.

        Returns:
            The masks.
        """
        return Masks(masks, model=self._model, unprunable=self.unprunable, declared=self._declared)

    def summary(self) -> Summary:
        """Return the kept weights per parameter.

        Returns:
            A summary that prints as a table and iterates over rows.

        Examples:
            >>> print(Masks({"weight": torch.tensor([[True, False]])}).summary())
            weight  shape  kept  of  sparsity
            weight  1x2       1   2    0.5000
            all               1   2    0.5000
        """
        rows = [LayerSummary(name, tuple(mask.shape), self._kept[name], mask.numel()) for name, mask in self.items()]
        return Summary(tuple(rows), self.unprunable)

    def examine(self, x: Any = None, *, model: torch.nn.Module | None = None) -> tuple[Finding, ...]:
        """Return the disconnected parts of the masked network, before any training.

        Args:
            x: Inputs as the network takes them, `[batch, ...]`; only shapes and kinds count. With them, two passes of
                one example through a float64 copy find every layer, branch and output that no path reaches. Without
                them, only layers with no kept weight are reported.
            model: Network to examine, by default the one that the masks were made for.

        Returns:
            Findings, the most severe first; each has a `kind`, the `layers` and a `message`. Empty for a connected
            network.

        Raises:
            UsageError: If the masks have no model, or the model does not run on `x`.

        Examples:
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
            >>> first, second = torch.tensor([[True, True], [False, False]]), torch.tensor([[False, True]])
            >>> masks = Masks({"0.weight": first, "1.weight": second}, model=model)
            >>> [finding.message for finding in masks.examine(torch.zeros(1, 2))]
            ['disconnected network (layer collapse), no output depends on the input']
        """
        if x is None:
            return emptied(self._masks)
        plain = self._home(model)
        device = next(iter(plain.parameters())).device
        device = torch.device("cpu") if device.type == "mps" else device  # mps lacks float64
        with fitting_threads():
            copied = declare_layers(copy_of(plain).to(device), self._declared)
            return examine(evidence_of(copied, Examples([(x, x)], device, Signature(copied)), self))

    def apply(self, model: torch.nn.Module) -> None:
        """Zero the pruned weights of a network in place, once; `hold` keeps them zero.

        Args:
            model: Network of the masks. It may be compiled, parallel or an average.

        Raises:
            UsageError: If masks do not fit the network, before any change; the message names them.
        """
        weights = self.weights_in(unwrap(model))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.masked_fill_(~self[name].to(weight.device), 0)
        self._model = unwrap(model)

    def shrink(self, model: torch.nn.Module | None = None) -> torch.nn.Module:
        """Return the smaller network that masks of whole channels leave, a copy with the weights of its channels.

        Train it as any network, with a new optimizer: it learns as the masked network does, faster. With the option
        `rescale` of the unit its initial weights are scaled, so shrink before training.

        Args:
            model: Network to shrink, by default the one that the masks were made for.

        Returns:
            A copy whose layers lack the removed channels, in the mode of the network.

        Raises:
            UsageError: If the masks remove single weights, have no model, or do not fit it.

        Examples:
            >>> from autosparse import prune
            >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
            >>> masks = prune(model, [(torch.rand(2, 8), None)], 0.75, method="magnitude", unit="channel")
            >>> masks.shrink()
            Sequential(
              (0): Linear(in_features=8, out_features=8, bias=True)
              (1): ReLU()
              (2): Linear(in_features=8, out_features=4, bias=True)
            )
        """
        if self.slicing is None:
            raise UsageError(
                "these masks remove single weights, which make no layer smaller",
                '`prune(..., unit="channel")` removes whole channels',
            )
        home = self._home(model)
        self.weights_in(home)  # raises for another network
        return self.slicing.start(home)

    def hold(self, *optimizers: torch.optim.Optimizer, model: torch.nn.Module | None = None) -> Hold:
        """Zero the pruned weights and their gradients now and for as long as the hold is in force.

        Weights are zeroed after every step of their optimizers, before every forward pass in training mode, and when a
        state is loaded or read. Gradients are zeroed as they arrive, so that `clip_grad_norm_` and optimizers that act
        between steps (SAM) see none. Each step looks up its optimizer's weights: layers may be added or unfrozen. An
        average of the model (EMA) created from now on keeps the zeros; `apply` the masks to an older one.

        Args:
            optimizers: Optimizers of the model; each has at least one of its parameters. Wrappers with a `step` and
                `param_groups` are accepted.
            model: The model, by default the one that the masks were made for or last applied to.

        Returns:
            A handle whose `remove()` ends the hold; in a `with` statement the block does.

        Raises:
            UsageError: If an object is no optimizer of the model or the masks do not fit, before any change.

        Examples:
            >>> model = torch.nn.Linear(2, 1)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            >>> masks = Masks({"weight": torch.tensor([[True, False]])}, model=model)
            >>> with masks.hold(optimizer):
            ...     model(torch.ones(4, 2)).sum().backward()
            ...     optimizer.step()
            >>> model.weight[0, 1].item()
            0.0
        """
        home = self._home(model)
        handle = hold_zero(home, self.weights_in(home), self, optimizers)
        self.apply(home)
        return handle

    def callback(self, model: torch.nn.Module | str | None = None) -> Any:
        """Return a callback for Lightning or the Hugging Face `Trainer` that holds the masks through the training.

        It applies the masks when the training starts, also from a checkpoint, and ends the hold when the training
        ends; pruned weights stay zero. Import the library of the trainer first: `lightning.pytorch`,
        `pytorch_lightning` or `transformers`.

        Args:
            model: Network of the masks, or its attribute in the trained module, such as `"net"`. By default the network
                that the masks were made for, or else the one part of the trained module that the masks fit.

        Returns:
            The callback, for `callbacks=[...]` of either trainer.

        Raises:
            MissingExtra: If neither library is installed.
            UsageError: When the training starts, if masks do not fit, fit several parts or cannot be held.

        Examples:
            >>> import lightning.pytorch  # doctest: +SKIP
            >>> trainer = lightning.pytorch.Trainer(callbacks=[masks.callback()])  # doctest: +SKIP
        """
        return callback_for(self, model)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file atomically.

        Args:
            path: File to write, in an existing folder; an old file is replaced.

        Raises:
            MissingRequirement: If the file cannot be written.

        Examples:
            >>> import tempfile
            >>> masks = Masks({"weight": torch.tensor([[True, False]])})
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     masks.save(Path(folder) / "masks.safetensors")
            ...     Masks.load(Path(folder) / "masks.safetensors") == masks
            True
        """
        target = Path(path)
        sweep(target.parent, target.name)
        try:
            with drafted(target) as draft:
                write_through(draft, dump_tensors({**self._masks, **self._structure()}))
        except OSError as error:
            raise MissingRequirement(
                f"{target} cannot be written: {error.strerror or error}", "name a file in a folder that exists"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Masks:
        """Read a file written by `save`.

        Args:
            path: Safetensors file with bool tensors.

        Returns:
            Masks on the CPU, ordered by name, without a model.

        Raises:
            UsageError: If the file cannot be read, is damaged or holds no masks.
        """
        source = Path(path)
        try:
            tensors = load_tensors(read_regular(source))
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror or error}", "name a file of masks") from error
        except ValueError as error:
            raise UsageError(f"{source} is damaged or not a file of masks: {error}", "save the masks again") from error
        try:
            masks = {name: tensor for name, tensor in tensors.items() if not name.startswith(_STRUCTURE)}
            parts = {name.removeprefix(_STRUCTURE): tensors[name] for name in tensors if name not in masks}
            channels = {
                name.removeprefix(_CHANNELS): parts.pop(name) for name in [*parts] if name.startswith(_CHANNELS)
            }
            kept = {name: tuple(tensor.tolist()) for name, tensor in channels.items()}
            return cls(masks, slicing=from_named(parts) if parts else None, channels=kept)
        except (AutosparseError, ValueError) as error:
            raise UsageError(f"{source} is not a file of masks: {error}", "`Masks.save` writes one") from None

    def _structure(self) -> dict[str, torch.Tensor]:
        # The channels of masks, as tensors of a file.
        if self.slicing is None:
            return {}
        channels = {f"{_CHANNELS}{name}": torch.tensor(kept) for name, kept in self.channels.items()}
        return {f"{_STRUCTURE}{name}": part for name, part in {**channels, **named(self.slicing)}.items()}

    def _home(self, model: torch.nn.Module | None) -> torch.nn.Module:
        home = unwrap(model) if model is not None else self._model
        if home is None:
            raise UsageError(
                "the masks do not know which model they hold",
                "call `masks.apply(model)` first, or `masks.hold(optimizer, model=model)`",
            )
        return home

    def home_in(self, root: torch.nn.Module, model: torch.nn.Module | str | None = None) -> torch.nn.Module:
        """Return the network of the masks inside the module that a trainer trains.

        Args:
            root: Trained module, wrapped or not.
            model: The network or its attribute in `root`, where known.

        Returns:
            The network, unwrapped.

        Raises:
            UsageError: If `root` lacks the attribute, or the masks fit none or several of its parts.
        """
        if isinstance(model, torch.nn.Module):
            return unwrap(model)
        root = unwrap(root)
        if model is not None:
            try:
                return unwrap(root.get_submodule(model))
            except AttributeError:
                known = ", ".join(name for name, _ in root.named_children())
                raise UsageError(f"{type(root).__name__} has no module {model}", f"its modules are {known}") from None
        named = [(name, unwrap(part)) for name, part in root.named_modules()]
        parts = {id(part): (name, part) for name, part in named}
        if self._model is not None and id(self._model) in parts:
            return self._model
        fitting = [(name, part) for name, part in parts.values() if not find_weights(part, self)[1]]
        if len(fitting) == 1:
            return fitting[0][1]
        several = " and ".join(name or "itself" for name, _ in fitting[:3])
        raise UsageError(
            f"the masks fit several parts of {type(root).__name__}: {several}"
            if fitting
            else f"the masks fit no part of {type(root).__name__}: {find_weights(root, self)[1][0]}",
            'name the network: `masks.callback(model=network)`, or by its attribute, `masks.callback(model="net")`',
        )

    def weights_in(self, plain: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        """Return the parameters of the masks in a network.

        Args:
            plain: Unwrapped network.

        Returns:
            Name -> parameter.

        Raises:
            UsageError: If masks do not fit the network, or it is sharded; the message names them.
        """
        if sharded := sharded_weight(plain):
            raise UsageError(
                f"{sharded} is sharded over processes, and masks hold whole weights",
                "apply the masks before the model is sharded, and hold them under DistributedDataParallel",
            )
        weights, problems = find_weights(plain, self)
        if problems:
            more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise UsageError(
                f"the masks do not fit {type(plain).__name__}: {'; '.join(problems[:3])}{more}",
                "pass the network that was pruned, built as it was and not parametrized since",
            )
        return weights


@dataclass(frozen=True)
class LayerSummary:
    """Size and kept weights of one parameter.

    Attributes:
        name: Name of the parameter.
        shape: Shape of the weight.
        kept: Number of kept weights.
        total: Number of weights.
    """

    name: str
    shape: tuple[int, ...]
    kept: int
    total: int

    @property
    def sparsity(self) -> float:
        """Fraction of removed weights, in [0, 1]; 0 for an empty parameter."""
        return 1 - self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Summary:
    """Kept weights per parameter, and the reason for each parameter without a mask.

    Attributes:
        rows: One row for each masked parameter, in the order of the masks.
        unprunable: Parameter without a mask -> reason.
    """

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
    positions: bool = False,
    **others: Any,
) -> Evidence:
    """Return the evidence about a masked network, the input of criteria.

    Args:
        model: Unwrapped network.
        examples: Source of batches, on the device of the network.
        masks: Weight -> bool tensor of its shape; weights without a mask stay dense.
        seed: Seed of the evidence's generator.
        positions: Whether to count how often each weight is used, in one forward pass.
        **others: Further fields of `Evidence`, such as `objective` or `scorer`.

    Returns:
        The evidence, with masks on the devices of their weights.

    Examples:
        >>> model = torch.nn.Linear(2, 1)
        >>> examples = Examples([(torch.ones(1, 2), torch.zeros(1))], torch.device("cpu"), Signature(model))
        >>> evidence = evidence_of(model, examples, {"weight": torch.tensor([[True, False]])})
        >>> evidence.masks
        {'weight': tensor([[ True, False]])}
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    layers = describe_layers(model, examples.example() if positions else None)
    dense = Evidence.dense(model, layers, examples.draw, generator, examples.example, stream=examples.stream, **others)
    return replace(dense, masks={name: masks.get(name, mask).to(mask.device) for name, mask in dense.masks.items()})
