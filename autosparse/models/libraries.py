"""torchvision and timm: their networks by name, and their trained weights in the local caches.

Nothing is downloaded: missing weights are an error that names the command which downloads them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlparse

from pydantic import Field

from autosparse.borders import border, expand, in_short, is_out_of_memory, optional, out_of_memory
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import Tensors, state_of
from autosparse.errors import UsageError
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.models.trained import Adapt, Adapted, Shape, Weights
from autosparse.registry import suggestion
from autosparse.store import Store, digest
from autosparse.text import listed, quoted

Split = tuple[dict[str, Any], Weights | None]
"""Options of the structure, and the trained weights."""


def importing(name: str) -> AbstractContextManager[None]:
    """Turn errors of importing a network's library into a MissingExtra."""
    library = name.partition(":")[0]
    return optional(library, purpose=name, install={"timm": "'autosparse[timm]'"}.get(library, library))


def building(name: str, taker: str) -> AbstractContextManager[None]:
    """Turn errors of a library's function into a UsageError; `taker` is the function that takes the options."""

    def refuse(error: BaseException) -> BaseException:
        if isinstance(error, NotImplementedError):  # no fault of the request: the "meta" device lacks an operation
            return error
        if is_out_of_memory(error):
            return out_of_memory(name, error)
        return UsageError(f"{name} cannot be built: {in_short(error)}", f"options are those of {taker}")

    return border(refuse)


def timm_named(name: str) -> tuple[Any, str]:
    """Return timm and the name of its network. Raises UsageError for an unknown name."""
    with importing(name):
        import timm
    wanted = name.removeprefix("timm:")
    if not timm.is_model(wanted):
        raise _unknown(name, timm.list_models(), "timm.list_models()")
    return timm, wanted


def torchvision_named(name: str) -> tuple[Any, str]:
    """Return torchvision and the name of its network. Raises UsageError for an unknown name."""
    with importing(name):
        import torchvision.models
    wanted = name.removeprefix("torchvision:")
    known = torchvision.models.list_models(module=torchvision.models)
    if wanted not in known:
        raise _unknown(name, known, "torchvision.models.list_models()")
    return torchvision, wanted


def _unknown(name: str, known: Sequence[str], listing: str) -> UsageError:
    library, _, wanted = name.partition(":")
    return UsageError(f"{library} has no network {wanted!r}", suggestion(wanted, known) or f"`{listing}` lists them")


_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
"""torchvision's networks whose weights imply an input transform, and hold auxiliary heads, which one may remove."""


@dataclasses.dataclass(frozen=True)
class _Published:
    # Weights as a library publishes them: a label, and the file in a cache, or a repository of the hub and its files.
    label: str
    file: str = ""
    repository: str = ""
    files: tuple[Annotated[str, Field(min_length=1)], ...] = ()


def torchvision_weights(name: str, options: Mapping[str, Any]) -> Split:
    """Separate `weights`, such as DEFAULT or IMAGENET1K_V1. Raises UsageError for a name that torchvision lacks."""
    structure = dict(options)
    if structure.pop("pretrained", None):
        raise UsageError(f"{name} has no option `pretrained`", "write `weights: DEFAULT`")
    if (written := structure.pop("weights", None)) is None:
        return structure, None
    if _bare(name) in _WITH_AUXILIARY_HEADS:
        structure = {"aux_logits": False, "transform_input": True, **structure}

    def publish() -> _Published:
        member = _member(name, written)
        return _Published(member.name, Path(urlparse(member.url).path).name)

    published = _remembered(name, written, publish)
    command = f"from torchvision.models import get_model; get_model({_bare(name)!r}, weights={published.label!r})"
    adapt = partial(_by_torchvision, name, published.label, structure)
    return structure, _cached(name, published, _torch_home() / published.file, command, adapt)


def _member(name: str, written: Any) -> Any:
    torchvision, wanted = torchvision_named(name)
    members = torchvision.models.get_model_weights(wanted).__members__
    key = str(written).rpartition(".")[2]
    if key not in members:
        hint = suggestion(key.upper(), [*members]) or f"its weights: {listed([*members])}"
        raise UsageError(f"{name} has no weights {quoted(written)}", hint)
    return members[key]


def _by_torchvision(
    name: str, label: str, options: Mapping[str, Any], tensors: Tensors, network: torch.nn.Module, shape: Shape
) -> Adapted:
    torchvision, wanted = torchvision_named(name)
    member = _member(name, label)
    # A copy of the member that returns the tensors: torchvision renames those of old files, and sets what they imply.
    copy = object.__new__(type(member))
    copy.__dict__.update(member.__dict__, get_state_dict=lambda *_, **__: tensors)
    if wanted in _WITH_AUXILIARY_HEADS:  # the function itself sets these for its weights, and refuses other values
        options = {key: value for key, value in options.items() if key not in ("transform_input", "init_weights")}
        options = {key: value for key, value in options.items() if key != "aux_logits" or value}
    with building(name, "torchvision's function"), printing_to_stderr(), seeded(0):
        made = state_of(torchvision.models.get_model(wanted, weights=copy, **options))
    current, classes = state_of(network), len(member.meta["categories"])
    heads = [
        key
        for key, tensor in made.items()
        if tensor.shape[:1] == (classes,) and key in current and tensor.shape[1:] == current[key].shape[1:]
        if tensor.shape != current[key].shape
    ]
    return Adapted({key: tensor for key, tensor in made.items() if key in current}, heads, classes)


def timm_weights(name: str, options: Mapping[str, Any]) -> Split:
    """Separate `pretrained: true`. Raises UsageError for a network without such weights."""
    structure = dict(options)
    if "checkpoint_path" in structure:
        raise UsageError(f"`checkpoint_path` of {name} loads weights unseen", "write `initialization: {file: ...}`")
    wanted, folder = structure.pop("pretrained", False), structure.pop("cache_dir", None)
    if not isinstance(wanted, bool):
        raise UsageError(f"`pretrained` of {name} must be true or false but is {quoted(wanted)}")
    given, overlay = dict(structure), structure.pop("pretrained_cfg_overlay", None) or {}
    if not isinstance(overlay, Mapping):
        raise UsageError(
            f"`pretrained_cfg_overlay` of {name} must be a mapping but is {quoted(overlay)}",
            "such as `pretrained_cfg_overlay: {file: weights.safetensors}`",
        )
    local = overlay.get("file")
    if rest := {key: value for key, value in overlay.items() if key != "file"}:
        structure["pretrained_cfg_overlay"] = rest
    if not wanted:
        return structure, None

    def publish() -> _Published:
        about = _about_timm(name, given)
        file = Path(urlparse(about.url or "").path).name
        if not file and not about.hf_hub_id and not local:
            raise UsageError(f"timm has no weights of {name}", "`timm.list_pretrained()` lists networks that have some")
        names = (about.hf_hub_filename,) if about.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        return _Published(about.tag or "weights", file, about.hf_hub_id or "", names)

    with building(name, "timm's `create_model`"):
        published = _remembered(name, [given.get("pretrained_cfg"), overlay], publish)
        cache = expand(folder) if folder else None
        path = expand(local).absolute() if local else _hub_file(published, cache)
    path = path or (cache or _torch_home()) / (published.file or "model.safetensors")
    where = {
        "pretrained_cfg": given.get("pretrained_cfg"),
        "pretrained_cfg_overlay": overlay,
        "cache_dir": folder and str(expand(folder)),
    }
    arguments = "".join(f", {key}={value!r}" for key, value in where.items() if value)
    command = f"import timm; timm.create_model({_bare(name)!r}, pretrained=True{arguments})"
    weights = _cached(name, published, path, command, partial(_by_timm, name, given))
    if local:
        absent = f"weights file {path} of {name} does not exist", "correct `pretrained_cfg_overlay: {file: ...}`"
        weights = dataclasses.replace(weights, absent=absent)
    return structure, weights


def _about_timm(name: str, options: Mapping[str, Any]) -> Any:
    timm, wanted = timm_named(name)
    base, _, tag = wanted.partition(".")
    chosen, overlay = options.get("pretrained_cfg") or tag or None, options.get("pretrained_cfg_overlay")
    with building(name, "timm's `create_model`"):
        return timm.models.resolve_pretrained_cfg(base, chosen, overlay)


def _by_timm(
    name: str, options: Mapping[str, Any], tensors: Tensors, network: torch.nn.Module, shape: Shape
) -> Adapted:
    timm, wanted = timm_named(name)
    about, given = _about_timm(name, options), dict(options)
    given["pretrained_cfg_overlay"] = {**(given.get("pretrained_cfg_overlay") or {}), "state_dict": tensors}
    with building(name, "timm's `create_model`"), printing_to_stderr(), seeded(0):
        made = state_of(timm.create_model(wanted, pretrained=True, in_chans=shape[0], **given))
    heads = [about.classifier] if isinstance(about.classifier, str) else [*(about.classifier or ())]
    before = about.input_size[0]
    notes = [f"timm adapts the weights of {before} input channels to {shape[0]}"] if before != shape[0] else []
    return Adapted(made, [f"{head}.*" for head in heads], about.num_classes, notes)


def _bare(name: str) -> str:
    return name.partition(":")[2]


def _remembered(name: str, written: Any, publish: Callable[[], _Published]) -> _Published:
    # A plan then needs neither library, which take seconds to import.
    try:
        version = metadata.version(name.partition(":")[0])
    except metadata.PackageNotFoundError:
        version = ""
    store, memory = Store.default(), f"weights-{digest([name, written, version])}"
    known: _Published | None = store.recall(memory, _Published)
    if known is None:
        known = publish()
        store.note(memory, dataclasses.asdict(known))
    return known


def _cached(name: str, published: _Published, path: Path, command: str, adapt: Adapt) -> Weights:
    called, library = f"{published.label} of {name}", name.partition(":")[0]
    absent = f"the weights {called} are in no local cache", f'`python -c "{command}"` downloads them'
    return Weights(called, path, absent, adapt=adapt, reader=f"{library} {metadata.version(library)}")


def _torch_home() -> Path:
    # The folder of torch.hub, without importing torch.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub" / "checkpoints"


def _hub_file(published: _Published, folder: Path | None) -> Path | None:
    # The file in the cache of the Hugging Face hub, of which timm prefers safetensors.
    if not published.repository:
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = published.repository.partition("@")
    for file in published.files:
        path = try_to_load_from_cache(
            repository, file, cache_dir=folder or constants.HF_HUB_CACHE, revision=revision or None
        )
        if isinstance(path, str):
            return Path(path)
    return None
