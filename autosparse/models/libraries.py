"""Any classification network of torchvision and, with an extra, of timm: `torchvision:NAME`, `timm:NAME`."""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import Any

from autosparse.errors import MissingExtra, UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import Factory, Shape, models
from autosparse.models.trace import fits, structure_of
from autosparse.registry import suggestion

_TIMM, _TORCHVISION = "timm:", "torchvision:"


def _check(
    factory: Factory, version: str, name: str, options: dict[str, Any], shape: Shape, classes: int
) -> dict[str, Any]:
    # Without memory for numbers: only names and shapes are looked at.
    build = partial(factory, name, shape, classes, **options)
    with fits(name, shape):
        structure_of(name, build, [name, options, version], shape, classes, device="meta")
    return {"name": name}


def _identify_timm(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError as error:
        raise _missing_timm(name) from error
    return _check(timm_network, version, name, options, shape, classes)


@models.register(name="timm:NAME", pattern=r"timm:[A-Za-z0-9_.]+", identify=_identify_timm)
def timm_network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """A network of timm, such as `timm:resnet26`; options are its own (needs `autosparse[timm]`)."""
    try:
        import timm
    except ImportError as error:
        raise _missing_timm(name) from error
    wanted = name.removeprefix(_TIMM)
    if not timm.is_model(wanted):
        hint = suggestion(wanted, timm.list_models()) or "`timm.list_models()` lists them"
        raise UsageError(f"timm has no network {wanted!r}", hint)
    try:
        made: torch.nn.Module = timm.create_model(
            wanted, pretrained=False, num_classes=classes, in_chans=shape[0], **options
        )
    except NotImplementedError:  # not what was asked for, but what it was asked on: the "meta" device
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} cannot be built: {error}", "options are those of timm's `create_model`") from error
    return made


def _missing_timm(name: str) -> MissingExtra:
    return MissingExtra(f"{name} needs timm, which is not installed", "run `pip install 'autosparse[timm]'`")


def _identify_torchvision(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    return _check(torchvision_network, metadata.version("torchvision"), name, options, shape, classes)


@models.register(name="torchvision:NAME", pattern=r"torchvision:[A-Za-z0-9_]+", identify=_identify_torchvision)
def torchvision_network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """A classification network of torchvision, such as `torchvision:vgg16_bn`; options are its own."""
    try:
        import torchvision.models
    except ImportError as error:
        raise MissingExtra(f"{name} needs torchvision", "run `pip install torchvision`") from error
    wanted = name.removeprefix(_TORCHVISION)
    known = torchvision.models.list_models(module=torchvision.models)
    if wanted not in known:
        hint = suggestion(wanted, known) or "`torchvision.models.list_models()` lists them"
        raise UsageError(f"torchvision has no network {wanted!r}", hint)
    if shape[0] != 3:
        raise UsageError(
            f"{name} takes images of 3 channels but the dataset's have {shape[0]}",
            "set `dataset.channels: 3` where the dataset has it, or take a network of autosparse",
        )
    try:
        made: torch.nn.Module = torchvision.models.get_model(wanted, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be built: {error}", "options are those of torchvision's function") from error
    return made
