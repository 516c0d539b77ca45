"""Any network of timm, by `timm:NAME` (an extra)."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from autosparse.errors import MissingExtra, UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, models
from autosparse.models.trace import fits, structure_of
from autosparse.registry import suggestion

_PREFIX = "timm:"


def _identify(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError as error:
        raise _missing(name) from error
    identity = [name, options, version]
    with fits(name, shape):
        structure_of(name, lambda: network(name, shape, classes, **options), identity, shape, classes, device="meta")
    return {"name": name}


@models.register(name="timm:NAME", pattern=r"timm:[A-Za-z0-9_.]+", identify=_identify)
def network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """A network of timm, such as `timm:resnet26`; options are its own (needs `autosparse[timm]`)."""
    try:
        import timm
    except ImportError as error:
        raise _missing(name) from error
    wanted = name.removeprefix(_PREFIX)
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


def _missing(name: str) -> MissingExtra:
    return MissingExtra(f"{name} needs timm, which is not installed", "run `pip install 'autosparse[timm]'`")
