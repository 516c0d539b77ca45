"""Loading of emitted models: files from anywhere, so every byte is checked and no code runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import get_ident
from typing import Annotated, Any

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from autosparse.api.hold import unwrap
from autosparse.backends import available_memory
from autosparse.borders import first_line, is_of_machine, is_out_of_memory, out_of_memory
from autosparse.core.inputs import leaves
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import state_of
from autosparse.datasets import MOST_VALUES
from autosparse.errors import AutosparseError, DamagedFile, FitError, MissingRequirement, UsageError
from autosparse.exporters import Model, bytes_of, exporters, fit, most_numbers
from autosparse.lazy_torch import torch
from autosparse.models import build_model, models
from autosparse.regular_file import open_regular
from autosparse.spec.choices import ModelChoice
from autosparse.text import size

CARD = "card.json"
_LARGEST_CARD = 32 * 2**20  # class names included, of which there may be a million
_LARGEST_NUMBER, _MOST_OPTIONS = 10_000, 10_000  # largest number in a network's options, and their number
_FREE, _FOR_A_TENSOR = 2_000, 8  # modules and parameters of any network, and further ones for each tensor of its file


@dataclass(frozen=True)
class OpenedModel:
    """Model as stored in a folder or a file.

    Attributes:
        path: Folder or file that it is from.
        format: Name of the format, such as `safetensors` or `compact`.
        bytes: Size of the model's files in bytes, without the card and the format's optional files.
        card: Provenance and network; None for a single file.
        model: Tensors and masks; empty for formats that another program opens.
    """

    path: Path
    format: str
    bytes: int
    card: Card | None
    model: Model


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _File(_Part):
    sha256: str
    bytes: Annotated[int, Ge(0)]


class _Model(_Part):
    name: str
    options: Mapping[str, Any] = {}


def _check_shape(shape: list[int]) -> list[int]:
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"an image has more than {MOST_VALUES:,} values")
    return shape


class _Network(_Part):
    model: _Model
    shape: Annotated[list[Annotated[int, Ge(1)]], Len(3, 3), AfterValidator(_check_shape)]
    classes: Annotated[int, Ge(1), Le(2**20)]


class _Layer(_Part):
    name: str
    kept: Annotated[int, Ge(0)] = 0
    size: Annotated[int, Ge(0)] = 0


class _Accuracy(_Part):
    test_accuracy: float | None = None
    example_accuracy: float | None = None
    layers: list[_Layer] = []


class _Images(_Part):
    size: list[int] = []
    channels: str | None = None
    mean: list[float]
    std: list[float]


class _Origin(_Part):
    key: str


class Card(_Part):
    """Contents of `card.json`, the card next to the model, as far as loading uses them.

    Attributes:
        format: Name of the format.
        options: Options of the format, with their defaults.
        files: File name -> sha256 and size in bytes.
        network: Factory, image shape and number of classes of the network; None for a network without a factory.
        network_class: Class of a network without a factory.
        method: Name of the method that made the masks.
        sparsity: Requested fraction of removed weights.
        seed: Seed of the initialization.
        accuracy: Test accuracy in percent, and the kept weights of each layer.
        classes: Names of the classes, in the order of the outputs.
        images: Preprocessing of a picture: size, colours, and the mean and standard deviation that normalize it.
        provenance: Input -> key of its artifact.
    """

    format: str
    options: Mapping[str, bool | str] = {}
    files: Mapping[str, _File]
    network: _Network | None = None
    network_class: str | None = None
    method: str | None = None
    sparsity: float | None = None
    seed: int | None = None
    accuracy: _Accuracy = _Accuracy()
    classes: list[str] = []
    images: _Images | None = None
    provenance: Mapping[str, _Origin] = {}

    @model_validator(mode="after")
    def _check_network(self) -> Card:
        if self.network is None and self.network_class is None:
            raise ValueError("it does not say `network`")
        return self

    @property
    def network_name(self) -> str:
        """Factory or class of the network."""
        return self.network.model.name if self.network else str(self.network_class)


def load(path: str | Path, model: torch.nn.Module | None = None) -> torch.nn.Module:
    """Return the network of an emitted model, in evaluation mode.

    Every byte is checked against the card; no code next to the model is imported or unpickled.

    Args:
        path: Folder of the model in a run (`runs/NAME-N/models/...`), whose card names the network, or its single file.
        model: Network of the pruned structure to load into. A single file, and a network of your own code, need it. It
            may be compiled or parallel.

    Returns:
        The network with the loaded weights: `model` itself if given, except for the smaller formats (`shrunk`,
        `sparse`), which return another network and leave `model` unchanged.

    Raises:
        UsageError: If the path holds no emitted model, its format is for another program, its network is user code, or
            its tensors do not fit `model`.
        DamagedFile: If the bytes differ from the card or hold no model.
        FitError: If the model is larger than the memory.

    Examples:
        >>> import tempfile
        >>> from autosparse.store import dump_tensors
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> tensors = {"weight": torch.tensor([[1.0, 0.0]])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.safetensors"
        ...     _ = path.write_bytes(dump_tensors(tensors))
        ...     loaded = load(path, network)
        >>> loaded(torch.tensor([[3.0, 5.0]])).item()
        3.0
    """
    opened = read_emitted(path)
    if opener := exporters[opened.format].facts.get("opener"):
        raise UsageError(f"{opened.path} is for {opener}, which opens it without autosparse")
    if model is None:
        return fit(opened.format, opened.model, _network(opened))
    plain = unwrap(model)
    if odd := _odd(plain, opened):
        raise UsageError(f"{opened.path} is of another network than the given model: {odd}")
    placed = fit(opened.format, opened.model, plain)
    return model.eval() if placed is plain else placed


def read_emitted(path: str | Path) -> OpenedModel:
    """Return the format, card, tensors and masks of an emitted model.

    Args:
        path: Folder of the model, or its single file.

    Returns:
        The checked model. Of formats that another program opens, only the bytes are compared with the card.

    Raises:
        UsageError: If the path holds no emitted model.
        DamagedFile: If the bytes differ from the card or hold no model.
        FitError: If the model is larger than the memory.
    """
    where = Path(path)
    kind = _kind(where, follow=True)  # follow the given link, but no link inside the folder
    if kind is None:
        raise UsageError(f"there is no {where}", "name the folder of an emitted model, or its file")
    try:
        opened = _folder(where) if stat.S_ISDIR(kind) else _file(where, kind)
        for name, tensor in opened.model.state.items():
            if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
                continue
            if name in opened.model.masks or bool(tensor.isnan().any()):  # buffers may be infinite: attention masks
                raise ValueError(f"tensor {name} has values that are not finite")
        return opened
    except AutosparseError:
        raise
    except OSError as error:
        _check_machine(where, error)
        raise UsageError(f"{where} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # bytes of anyone: whatever they raise is their damage
        _check_machine(where, error)
        raise DamagedFile(
            f"{where} is damaged: {_reason(error)}", "copy it again from the run that emitted it"
        ) from error


def _folder(where: Path) -> OpenedModel:
    if _kind(where / CARD) is None:
        raise UsageError(f"{where} has no {CARD}: no run emitted it", "a run's models are in its folder, models/")
    card = Card.model_validate(json.loads(_bytes(where / CARD, most=_LARGEST_CARD)))
    entry = exporters.find(card.format)
    if entry is None:
        raise ValueError(f"{CARD} names a format `{card.format}`, which this autosparse does not have")
    optional = [name for name in entry.facts.get("optional", ()) if name in card.files]
    files = {name: _listed(where, name, card.files[name]) for name in (*entry.facts["files"], *optional)}
    model = entry.facts["read"](files) if "read" in entry.facts else Model({}, {})
    sizes = {name: len(data) for name, data in files.items()}
    return OpenedModel(where, entry.name, bytes_of(entry.name, sizes), card, model)


def _listed(where: Path, name: str, about: _File) -> bytes:
    data = _bytes(where / name, most=about.bytes)
    if len(data) != about.bytes or hashlib.sha256(data).hexdigest() != about.sha256:
        raise ValueError(f"{name} is not what {CARD} describes")
    return data


def _file(where: Path, kind: int) -> OpenedModel:
    if not stat.S_ISREG(kind):
        raise ValueError("it is not a file")
    # The longest suffix that fits: `model.compact.safetensors` also ends like `model.safetensors`.
    first = {entry.facts["files"][0]: entry for entry in exporters}
    ends = {name.removeprefix("model"): entry for name, entry in first.items() if name.startswith("model")}
    known = [end for end in ends if where.name.endswith(end)]
    if not known:
        formats = ", ".join(name for name in exporters.names if "read" in exporters[name].facts)
        raise UsageError(f"{where} is not a model that autosparse exports", f"formats that it reads: {formats}")
    entry = ends[max(known, key=len)]
    if "read" not in entry.facts:
        raise UsageError(f"{where} is for {entry.facts['opener']}", "its folder has a card that describes it")
    data = _bytes(where.resolve())
    return OpenedModel(where, entry.name, len(data), None, entry.facts["read"]({entry.facts["files"][0]: data}))


def _kind(path: Path, *, follow: bool = False) -> int | None:
    # File mode, or None if the path does not exist; a link counts as a link unless `follow`.
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (OSError, ValueError):
        return None


def _bytes(path: Path, *, most: float = math.inf) -> bytes:
    kind = _kind(path)
    if kind is None or not stat.S_ISREG(kind):
        raise ValueError(f"{path.name} is {'missing' if kind is None else 'not a file'}")
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > most:
            raise ValueError(f"{path.name} of {size(length)} is larger than {size(most)}")
        if length > (memory := available_memory()):
            raise FitError(f"{path} of {size(length)} is larger than {size(memory)} of available memory")
        return file.read(length)


def _network(opened: OpenedModel) -> torch.nn.Module:
    if opened.card is None:
        raise UsageError(f"{opened.path} does not say which network it is", "load it into one: `load(path, model)`")
    about = opened.card.network
    if about is None:
        raise _foreign(opened)
    name, options, classes = about.model.name, about.model.options, about.classes
    shape = about.shape[0], about.shape[1], about.shape[2]
    entry = models.find(name)
    if entry is not None and entry.facts.get("user_code"):
        raise _foreign(opened)
    try:
        if entry is None:
            raise ValueError(f"it names a network `{name}`, which this autosparse does not have")
        values = [*islice(leaves(options), _MOST_OPTIONS + 1)]
        if len(values) > _MOST_OPTIONS or not all(map(_is_modest, values)):
            raise ValueError("its network cannot be built")
        TypeAdapter(ModelChoice).validate_python({"name": name, **options})
        if entry.pattern is not None and any(isinstance(value, str) for value in leaves(entry.apart(options)[0])):
            raise ValueError("its network's options contain strings")  # perhaps file names that a library would open
        # On the meta device first: the network may be larger than the file.
        state = {name: tensor.to("meta") for name, tensor in opened.model.state.items()}
        drawn = replace(opened, model=replace(opened.model, state=state))
        with torch.device("meta"):
            with _at_most(_FREE + _FOR_A_TENSOR * len(state)):
                paper = build_model(name, options, shape, classes)
            numbers = sum(tensor.numel() for tensor in (*paper.parameters(), *paper.buffers()))
            if numbers > most_numbers(opened.bytes):
                raise ValueError(f"its network has {numbers:,} numbers, more than a file of {size(opened.bytes)} holds")
            if odd := _odd(paper, drawn):
                raise ValueError(f"its tensors are of another network: {odd}")
            _try(fit(opened.format, drawn.model, paper), shape, classes)
        with seeded(0):
            return build_model(name, options, shape, classes)
    except (FitError, MissingRequirement):
        raise
    except Exception as error:  # options of anyone, for networks of any library
        _check_machine(opened.path, error)
        raise DamagedFile(f"{opened.path} is damaged: {CARD}: {_reason(error)}") from error


def _foreign(opened: OpenedModel) -> UsageError:
    assert opened.card is not None
    name = opened.card.network_name
    return UsageError(
        f"the network of {opened.path} is user code, `{name}`, which loading never imports"
        if opened.card.network
        else f"the card of {opened.path} names no factory of its network, only the class `{name}`",
        "build it and load into it: `load(path, model)`",
    )


def _check_machine(path: Path, error: Exception) -> None:
    # Raise an error that damages no file: a lack of memory, or a library that cannot be imported.
    if is_out_of_memory(error):
        raise out_of_memory(f"loading {path}", error) from error
    if is_of_machine(error):
        raise error


def _is_modest(value: Any) -> bool:
    return not isinstance(value, int | float) or -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER  # false for nan


@contextmanager
def _at_most(parts: int) -> Iterator[None]:
    # Stop a network at its construction, once it has more modules and parameters.
    thread, left = get_ident(), parts

    def count(*registered: object) -> None:
        nonlocal left
        left -= get_ident() == thread  # torch's hooks see the networks of all threads
        if left < 0:
            raise ValueError("its network has more layers than its file has tensors")

    registered = torch.nn.modules.module
    hooks = (
        registered.register_module_parameter_registration_hook(count),
        registered.register_module_module_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _try(model: torch.nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    try:
        with torch.no_grad():
            outputs = model(torch.empty(1, *shape, device="meta"))
    except RuntimeError as error:
        raise ValueError(f"its layers do not fit one another: {error}") from error
    if tuple(outputs.shape) != (1, classes):
        raise ValueError(f"its network gives {tuple(outputs.shape)} for one image of {classes} classes")


def _odd(model: torch.nn.Module, opened: OpenedModel) -> str:
    # Tensors that the network lacks or has in another shape; empty where all match.
    if "fit" in exporters[opened.format].facts:
        try:
            fit(opened.format, opened.model, model)
        except ValueError as error:
            return str(error)
        return ""
    expected, state = state_of(model), opened.model.state
    odd = [name for name in (*expected, *state) if name not in expected or name not in state]
    odd += [name for name in expected if name in state and expected[name].shape != state[name].shape]
    return f"{odd[0]}{f' and {len(odd) - 1} more' if odd[1:] else ''}" if odd else ""


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"it does not say {error}" if isinstance(error, KeyError) else first_line(error) or type(error).__name__
