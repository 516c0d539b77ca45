"""Trained weights that a network starts from: their file, its identity by content, and the loading into a network."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from autosparse.backends import available_memory
from autosparse.borders import border, expand, first_line, in_short, is_out_of_memory, out_of_memory
from autosparse.core.weights import Tensors, state_of
from autosparse.errors import FitError, MissingData, StepError, UsageError
from autosparse.lazy_torch import torch
from autosparse.registry import suggestion
from autosparse.regular_file import NotRegularError, open_regular
from autosparse.store import contents, load_tensors
from autosparse.text import listed, size

Shape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Adapted:
    """Tensors as a library reads them: names or patterns of the classifier's, its number of classes, and notes."""

    tensors: Tensors
    classifier: Sequence[str]
    classes: int
    notes: Sequence[str] = ()


Adapt: TypeAlias = "Callable[[Tensors, torch.nn.Module, Shape], Adapted]"
"""A library's reading of a file's tensors for a network on images of a shape."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DistributedDataParallel, torch.compile and Lightning put before the names of tensors."""
_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys of checkpoints that hold the named tensors."""
_DEEPEST = 8  # levels of these; a mapping may hold itself
_AVERAGED = "n_averaged"  # counter of AveragedModel, next to its network
_SHOWN = 4  # names in a message
_COUNTER = "num_batches_tracked"  # of batch normalization, which old files lack
_STATE_ALONE = "save the tensors alone: `torch.save(network.state_dict(), FILE)`"


@dataclass(frozen=True)
class Weights:
    """Trained weights of a network: a file, which may be missing, and the tensors to skip.

    Attributes:
        name: Name for messages: the file's, or a library's name of the weights.
        path: The file.
        absent: Missing file in one sentence, and its remedy in another.
        skip: Names or patterns of the tensors that keep their random initialization.
        pinned: The file's sha256 by the spec, which stands for a missing file.
        adapt: Reading of the file by the library that it is made for.
        reader: Name and version of that library.
    """

    name: str
    path: Path
    absent: tuple[str, str]
    skip: tuple[str, ...] = ()
    pinned: str | None = None
    adapt: Adapt | None = None
    reader: str = ""

    @classmethod
    def of_file(cls, written: Mapping[str, Any]) -> Weights:
        """Return the weights of `initialization: {file: ..., skip: [...], sha256: ...}`."""
        path = expand(written["file"]).absolute()
        absent = f"weights file {path} does not exist", "name a file that holds the state of a trained network"
        return cls(path.name, path, absent, tuple(written.get("skip", ())), written.get("sha256"))

    @cached_property
    def sha256(self) -> str | None:
        """The file's sha256, or None for a missing one. Raises MissingData, or UsageError for another than pinned."""
        if not os.path.exists(self.path):
            return self.pinned
        with _opened(self.path):  # a file that does not fit into memory is not even read
            (actual,) = contents(self.path.parent, [self.path]).values()
        if self.pinned not in (None, actual):
            message = f"{self.path} has sha256 {actual}, but the spec says {self.pinned}"
            raise UsageError(message, "fetch the file that the spec means, or correct `sha256`")
        return actual

    @property
    def identity(self) -> dict[str, Any]:
        """The part of cache keys: content, never a path; but no run shares the key of a missing file."""
        content = {"sha256": self.sha256} if self.sha256 else {"missing": os.fspath(self.path)}
        return {**content, "skip": [*self.skip]}

    @property
    def missing(self) -> tuple[str, str] | None:
        """The missing file and its remedy, or None."""
        return None if os.path.exists(self.path) else self.absent

    def load(self, network: torch.nn.Module, planned: Mapping[str, Any], shape: Shape, classes: int) -> tuple[str, ...]:
        """Load the weights into a network with random ones, in place, and return notes on the differences.

        Args:
            network: Network with the weights of its seed.
            planned: Identity of the weights when they were planned.
            shape: Shape of one image: (channels, height, width).
            classes: Number of classes of the network.

        Returns:
            One sentence for each kind of difference from the file, such as skipped tensors.

        Raises:
            MissingData: If the file is missing or cannot be read.
            StepError: If its content has changed since the plan.
            UsageError: If it holds no tensors, or others than the network's.
            FitError: If it is larger than the memory.
        """
        if self.missing:
            raise MissingData(*self.missing)
        with _opened(self.path) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != planned.get("sha256"):
            message = f"the weights of {self.name} have changed since they were planned"
            raise StepError(message, "run again: the plan is compiled again")
        tensors, skip = named_tensors(data, self.name), self.skip
        del data
        notes, current, why = [*_conversions(tensors)], state_of(network), ""
        if self.adapt:
            adapted = self.adapt(tensors, network, shape)
            tensors, notes = adapted.tensors, [*notes, *adapted.notes]
            if adapted.classes != classes:
                skip = (*skip, *adapted.classifier)
                why = f": {classes:,} classes, not the {adapted.classes:,} of the weights"
        _load(network, _fitting(tensors, current, skip, self), self.name)
        if kept := [name for name in current if _matches(name, skip)]:
            verb = "keeps" if len(kept) == 1 else "keep"
            notes.append(f"{listed(kept, _SHOWN)} {verb} the random initialization of the seed{why}")
        return tuple(notes)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as file:
            length, memory = os.fstat(file.fileno()).st_size, available_memory()
            if 2 * length > memory:  # bytes and tensors
                raise FitError(
                    f"weights file {path} of {size(length)} does not fit twice into {size(memory)} of available memory",
                    "choose smaller weights, or a machine with more memory",
                )
            yield file
    except OSError as error:
        remedy = "name a regular file" if isinstance(error, NotRegularError | IsADirectoryError) else "make it readable"
        raise MissingData(f"{path} cannot be read: {error.strerror or error}", remedy) from error


def named_tensors(data: bytes, name: str) -> Tensors:
    """Return the named tensors of safetensors or PyTorch bytes, of which code is never executed.

    Args:
        data: Content of the file, with the tensors alone or below `state_dict`, `model_state_dict` or `model`.
        name: Name of the file for messages.

    Returns:
        Tensors on the CPU, in the order of the file.

    Raises:
        UsageError: If the content is damaged, or holds no named tensors.
        FitError: If it is larger than the memory.
    """

    def refuse(error: BaseException) -> BaseException:
        if is_out_of_memory(error):
            return out_of_memory(f"reading {name}", error)
        if isinstance(error, pickle.UnpicklingError):
            if objects := _pickled(data):
                return UsageError(f"{name} holds pickled code, which is never run: {listed(objects)}", _STATE_ALONE)
            return UsageError(f"{name} is neither a safetensors nor a PyTorch file, or damaged", _STATE_ALONE)
        if "TorchScript" in first_line(error):
            return UsageError(f"{name} holds a TorchScript program, which is never run", _STATE_ALONE)
        return UsageError(f"{name} is no file of weights, or damaged: {in_short(error)}", _STATE_ALONE)

    with border(refuse):
        if data[8:9] == b"{":
            return load_tensors(data)
        with warnings.catch_warnings(action="ignore"):  # of its protocol; what cannot be read is an error
            value: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        for _ in range(_DEEPEST):
            parts = [value.get(key) for key in _NESTED] if isinstance(value, Mapping) else []
            value = next((part for part in parts if isinstance(part, Mapping)), value)
        named = value.items() if isinstance(value, Mapping) else ()
        tensors = {key: tensor for key, tensor in named if isinstance(tensor, torch.Tensor) and isinstance(key, str)}
        if not tensors:
            raise UsageError(f"{name} holds no named tensors", _STATE_ALONE)
        for key, tensor in tensors.items():
            if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
                raise UsageError(f"{name}: `{key}` is no dense tensor with numbers", _STATE_ALONE)
        return tensors


def _pickled(data: bytes) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data))
    except Exception:  # bytes of anyone
        return []


def _conversions(tensors: Tensors) -> Iterator[str]:
    kinds: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            kinds[kind] = kinds.get(kind, 0) + 1
    for kind, number in kinds.items():
        yield f"{number:,} tensor{'s' * (number > 1)} of {kind} are converted to float32"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _fitting(tensors: Tensors, current: Tensors, skip: Sequence[str], weights: Weights) -> Tensors:
    # The tensors to load, by the network's names. Raises UsageError for all that do not fit, unless skipped.
    named = without_prefixes(tensors, current, weights.name)
    for pattern in weights.skip:
        if not any(fnmatchcase(name, pattern) for name in (*current, *named)):
            hint = suggestion(pattern, [*current]) or f"its tensors: {listed([*current])}"
            raise UsageError(f"`skip` names `{pattern}`, which matches no tensor of the network", hint)
    left = {name: tensor for name, tensor in named.items() if not _matches(name, skip)}
    if not left:
        raise UsageError(f"`skip` leaves no tensor of {weights.name} to load", "skip fewer tensors")
    if not any(name in current for name in left):
        theirs, its = next(iter(left)), next(iter(current))
        prefix = _shared_prefix(left, current)
        raise UsageError(
            f"no tensor of {weights.name} is one of the network: it has `{theirs}`, the network `{its}`",
            f"remove `{prefix}` from the names of its tensors" if prefix else "name weights of this network",
        )
    tied = {current[name].data_ptr() for name in left if name in current}
    odd = {name: _odd(name, left.get(name), tensor, tied) for name, tensor in current.items()}
    odd = {name: why for name, why in odd.items() if why and not _matches(name, skip)}
    odd |= {name: "is not in the network" for name in left if name not in current}
    if odd:
        owners = dict.fromkeys(f"{name.rpartition('.')[0]}.*" if "." in name else name for name in odd)
        several = f", and {len(odd) - _SHOWN:,} more" if len(odd) > _SHOWN else ""
        kept = ", ".join(f'"{owner}"' for owner in owners)
        hint = f"`initialization: {{file: ..., skip: [{kept}]}}` keeps the random weights of these"
        raise UsageError(
            f"{weights.name} does not fit the network: "
            f"{', '.join(f'`{name}` {why}' for name, why in [*odd.items()][:_SHOWN])}{several}",
            hint
            if len(owners) <= _SHOWN and weights.adapt is None
            else "they are of another network, or of one with other options",
        )
    _check_tied(left, current, skip, weights)
    return left


def _check_tied(left: Tensors, current: Tensors, skip: Sequence[str], weights: Weights) -> None:
    # Several names of one tensor have one value and are skipped together: the last one would overwrite the others.
    groups: dict[tuple[int, torch.Size], list[str]] = {}
    for name, tensor in current.items():
        if tensor.numel():
            groups.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    for names in groups.values():
        if len({_matches(name, skip) for name in names}) > 1:
            kept = [name for name in names if not _matches(name, skip)]
            raise UsageError(f"{listed(names, _SHOWN)} are one tensor of the network", f"skip `{kept[0]}` as well")
        values = {name: left[name].to(current[name].dtype) for name in names if name in left}
        first = next(iter(values.values()), None)
        if other := next((name for name in values if not torch.equal(values[name], first)), ""):  # type: ignore[arg-type]
            raise UsageError(
                f"`{next(iter(values))}` and `{other}` of {weights.name} differ, and are one tensor of the network",
                f"remove one of them from {weights.name}",
            )


def _shared_prefix(left: Tensors, current: Mapping[str, Any]) -> str:
    # A prefix of all names of the file, without which they are the network's.
    first = next(iter(left))
    prefix = min((first.removesuffix(name) for name in current if first.endswith(f".{name}")), key=len, default="")
    return prefix if all(name.startswith(prefix) for name in left) else ""


def without_prefixes(tensors: Tensors, current: Mapping[str, Any], file: str) -> Tensors:
    """Return the tensors of a file by the names of a network.

    Args:
        tensors: Tensors by the names in the file, which wrappers and the attributes of trainers may prefix.
        current: State of the network.
        file: Name of the file for messages.

    Returns:
        Tensors by name; those that do not fit keep their names.

    Raises:
        UsageError: If two tensors have one name without their prefixes.
    """

    def fits(names: Iterable[str]) -> bool:
        return any(_plain(name, current) in current for name in names)

    prefix = next(iter(tensors), "").partition(".")[0] + "."
    if all(name.startswith(prefix) for name in tensors) and not fits(tensors):
        bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        tensors = bare if fits(bare) else tensors
    named: Tensors = {}
    for name, tensor in tensors.items():
        if (plain := _plain(name, current)) in named:
            raise UsageError(f"{file} names `{plain}` twice, under several prefixes", _STATE_ALONE)
        if plain in current or name != _AVERAGED:
            named[plain] = tensor
    return named


def _plain(name: str, current: Mapping[str, Any]) -> str:
    if name not in current:
        name = name.replace("._orig_mod.", ".")  # a compiled part of a network
    while name not in current and (prefix := next(filter(name.startswith, _PREFIXES), "")):
        name = name.removeprefix(prefix)
    return name


def _odd(name: str, tensor: torch.Tensor | None, expected: torch.Tensor, tied: Collection[int]) -> str:
    # The reason why a tensor of the file does not fit; empty for one that does.
    counter = name.endswith(_COUNTER)
    if tensor is None:
        return "" if counter or expected.data_ptr() in tied else "is not in the file"
    if tensor.shape != expected.shape:
        return f"is {[*tensor.shape]} in the file and {[*expected.shape]} in the network"
    kinds = [(one.is_floating_point(), one.is_complex()) for one in (tensor, expected)]
    if kinds[0] != kinds[1] and not (counter and tensor.is_floating_point()):  # converted with all others
        types = (str(one.dtype).removeprefix("torch.") for one in (tensor, expected))
        return "is of {} in the file and of {} in the network".format(*types)
    value = tensor.to(expected.dtype)  # a buffer such as an attention mask may be infinite
    return "" if bool(value.isfinite().all()) or torch.equal(value, expected) else "has values that are not finite"


def _load(network: torch.nn.Module, tensors: Tensors, name: str) -> None:
    complete = OrderedDict(tensors)
    complete._metadata = getattr(network.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    with border(lambda error: UsageError(f"{name} cannot be loaded: {in_short(error)}")), torch.no_grad():
        network.load_state_dict(complete, strict=False)
