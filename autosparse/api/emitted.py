"""Emitted models, opened again: files that may come from anywhere, so that every byte is doubted and no code runs."""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Len
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from autosparse.errors import AutosparseError, DamagedFile, UsageError
from autosparse.exporters import Model, exporters
from autosparse.lazy import torch
from autosparse.models import build_model, models
from autosparse.spec.kinds import ModelChoice

CARD = "card.json"
_LARGEST_CARD = 4 * 2**20
_LARGEST_NUMBER = 10_000  # that an option of a network may be


@dataclass(frozen=True)
class OpenedModel:
    """A model as it lies in a folder or a file; `card` says where it comes from; a file alone has none."""

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


class _Network(_Part):
    model: _Model
    shape: Annotated[list[int], Len(3, 3)]
    classes: int


class _Layer(_Part):
    name: str


class _Accuracy(_Part):
    test_accuracy: float | None = None
    layers: list[_Layer] = []


class _Origin(_Part):
    key: str


class Card(_Part):
    """What `card.json` says of the model beside it, as far as anything here looks at it."""

    format: str
    files: Mapping[str, _File]
    network: _Network
    method: str | None = None
    sparsity: float | None = None
    seed: int | None = None
    accuracy: _Accuracy = _Accuracy()
    provenance: Mapping[str, _Origin] = {}


def load(path: str | Path, model: torch.nn.Module | None = None) -> torch.nn.Module:
    """The network of an emitted model, in evaluation mode: of the folder that a run put it in, or of its one file.

    The folder's card names the network; `model` is one of the same structure to load into, which a file alone needs,
    and a network of your own code: nothing that lies beside the model is imported or unpickled. Raises UsageError for
    what cannot be obeyed and DamagedFile for bytes that are not what the card says, or no model.
    """
    found = read_emitted(path)
    if model is None:
        model = _network(found)
    elif odd := _odd(model, found.model.state):
        raise UsageError(f"{found.path} is of another network than the given model: {odd}")
    model.load_state_dict(dict(found.model.state))
    return model.eval()


def read_emitted(path: str | Path) -> OpenedModel:
    """An emitted model's format, card, tensors and masks. Raises UsageError where there is none, or DamagedFile."""
    place = Path(path)
    kind = _kind(place, follow=True)  # one's own link; those inside the folder are followed nowhere
    if kind is None:
        raise UsageError(f"there is no {place}", "name the folder of an emitted model, or its file")
    try:
        found = _folder(place) if stat.S_ISDIR(kind) else _file(place, kind)
        for name, tensor in found.model.state.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ValueError(f"tensor {name} has values that are not finite")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedFile(
            f"{place} is damaged: {_told(error)}", "copy it again from the run that emitted it"
        ) from error


def _folder(place: Path) -> OpenedModel:
    if _kind(place / CARD) is None:
        raise UsageError(f"{place} has no {CARD}: no run emitted it", "a run's models are in its folder, models/")
    card = Card.model_validate(json.loads(_bytes(place / CARD, _LARGEST_CARD)))
    entry = exporters.find(card.format)
    if entry is None:
        raise ValueError(f"{CARD} names a format `{card.format}`, which this autosparse does not have")
    files = {name: _listed(place, name, card.files[name]) for name in entry.facts["files"]}
    return OpenedModel(place, entry.name, sum(map(len, files.values())), card, entry.facts["read"](files))


def _listed(place: Path, name: str, about: _File) -> bytes:
    data = _bytes(place / name, about.bytes)
    if len(data) != about.bytes or hashlib.sha256(data).hexdigest() != about.sha256:
        raise ValueError(f"{name} is not what {CARD} describes")
    return data


def _file(place: Path, kind: int) -> OpenedModel:
    if not stat.S_ISREG(kind):
        raise ValueError("it is no file")
    if place.suffix != ".safetensors":
        formats = ", ".join(exporters.names)
        raise UsageError(f"{place} is no model that autosparse emits", f"formats that it reads: {formats}")
    entry = exporters["compact" if place.name.endswith(".compact.safetensors") else "safetensors"]
    data = _bytes(place.resolve())
    return OpenedModel(place, entry.name, len(data), None, entry.facts["read"]({entry.facts["files"][0]: data}))


def _kind(path: Path, *, follow: bool = False) -> int | None:
    # What lies there; a link is a link, wherever it leads, unless it is to be followed.
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (OSError, ValueError):
        return None


def _bytes(path: Path, most: int | None = None) -> bytes:
    kind = _kind(path)
    if kind is None or not stat.S_ISREG(kind):
        raise ValueError(f"{path.name} is {'not there' if kind is None else 'no file'}")
    with path.open("rb") as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        raise ValueError(f"{path.name} is larger than it may be")
    return data


def _network(found: OpenedModel) -> torch.nn.Module:
    if found.card is None:
        raise UsageError(f"{found.path} does not say which network it is", "load it into one: `load(path, model)`")
    try:
        about = found.card.network
        name, options, classes = about.model.name, about.model.options, about.classes
        shape = about.shape[0], about.shape[1], about.shape[2]
        if min(*shape, classes) < 1 or not all(map(_is_modest, _values([*shape, classes, options]))):
            raise ValueError("its network is none that could be built")
        entry = models.find(name)
        if entry is None:
            raise ValueError(f"it names a network `{name}`, which this autosparse does not have")
        if entry.facts.get("own_code"):
            raise UsageError(
                f"the network of {found.path} is own code, `{name}`, which loading never imports",
                "build it and load into it: `load(path, model)`",
            )
        if entry.pattern is not None and any(isinstance(value, str) for value in _values(options)):
            raise ValueError("its network's options hold texts")  # names of files, perhaps, that a library would open
        if entry.pattern is None:
            TypeAdapter(ModelChoice).validate_python({"name": name, **options})
        # On paper first: its size is not yet known to be the file's.
        with torch.device("meta"):
            odd = _odd(build_model(name, options, shape, classes), found.model.state)
        if odd:
            raise ValueError(f"its tensors are of another network: {odd}")
        with torch.random.fork_rng(devices=[]):
            return build_model(name, options, shape, classes)
    except AutosparseError:
        raise
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DamagedFile(f"{found.path} is damaged: {CARD}: {_told(error)}") from error


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            yield from _values(part)
    else:
        yield value


def _is_modest(value: Any) -> bool:
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= _LARGEST_NUMBER)


def _odd(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    # Which tensors of a state a network has not, or has otherwise; empty where it is its own.
    own = model.state_dict()
    odd = [name for name in (*own, *state) if name not in own or name not in state]
    odd += [name for name in own if name in state and own[name].shape != state[name].shape]
    return f"{odd[0]}{f' and {len(odd) - 1} more' if odd[1:] else ''}" if odd else ""


def _told(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0] if not isinstance(error, KeyError) else f"it does not say {error}"
