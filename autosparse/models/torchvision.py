"""Any classification network of torchvision, by `torchvision:NAME`."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from autosparse.errors import MissingExtra, UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, models
from autosparse.models.trace import fits, structure_of
from autosparse.registry import suggestion

_PREFIX = "torchvision:"


def _identify(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    identity = [name, options, metadata.version("torchvision")]
    # Without memory for numbers: only names and shapes are looked at.
    with fits(name, shape):
        structure_of(name, lambda: network(name, shape, classes, **options), identity, shape, classes, device="meta")
    return {"name": name}


@models.register(name="torchvision:NAME", pattern=r"torchvision:[A-Za-z0-9_]+", identify=_identify)
def network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """A classification network of torchvision, such as `torchvision:vgg16_bn`; options are its own."""
    try:
        import torchvision.models
    except ImportError as error:
        raise MissingExtra(f"{name} needs torchvision", "run `pip install torchvision`") from error
    wanted = name.removeprefix(_PREFIX)
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
