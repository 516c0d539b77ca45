"""Networks from outside the package: `torchvision:NAME`, `timm:NAME` with an extra, and your own, `FILE.py:FACTORY`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, models
from autosparse.models.facts import fits, structure_of
from autosparse.models.libraries import (
    building,
    importing,
    timm_named,
    timm_weights,
    torchvision_named,
    torchvision_weights,
)
from autosparse.user_code import PATTERN, call, guarded, identity_of, label, load_factory

_OF_WEIGHTS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
"""Options of timm's `create_model` that say where weights come from."""


def _identify(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    # On the meta device, without memory for numbers: only names and shapes count.
    try:
        version = metadata.version(name.partition(":")[0])
    except metadata.PackageNotFoundError as error:
        with importing(name):
            raise error
    build = partial(models[name].function, shape, classes, **options)
    with fits(name, shape):
        structure_of(name, build, [name, options, version], shape, classes, device="meta")
    return {"name": name}


def _timm_config(
    name: str,
    options: Mapping[str, Any],
    shape: Shape,
    labels: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Any]:
    # As timm's `save_for_hf` writes it: `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it.
    with importing(name):
        import timm
    wanted = name.removeprefix("timm:")
    published = timm.get_pretrained_cfg(wanted)
    layers = {part: getattr(published, part, None) for part in ("first_conv", "classifier", "fixed_input_size")}
    return {
        "architecture": wanted.partition(".")[0],  # `resnet18.a1_in1k` names published weights
        "num_classes": len(labels),
        "label_names": [*labels],
        "model_args": {"in_chans": shape[0], **{k: v for k, v in options.items() if k not in _OF_WEIGHTS}},
        "pretrained_cfg": {
            **{part: value for part, value in layers.items() if value is not None},
            "custom_load": False,
            "input_size": [*shape],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [*mean],
            "std": [*std],
        },
    }


@models.register(
    name="timm:NAME",
    pattern=r"timm:[A-Za-z0-9_.]+",
    identify=_identify,
    config=_timm_config,
    trained=timm_weights,
)
def timm_network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """Network of timm, such as `timm:resnet26`; options are its own (needs `autosparse[timm]`)."""
    timm, wanted = timm_named(name)
    with building(name, "timm's `create_model`"):
        made: torch.nn.Module = timm.create_model(
            wanted, pretrained=False, num_classes=classes, in_chans=shape[0], **options
        )
    return made


@models.register(
    name="torchvision:NAME", pattern=r"torchvision:[A-Za-z0-9_]+", identify=_identify, trained=torchvision_weights
)
def torchvision_network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """Classification network of torchvision, such as `torchvision:vgg16_bn`; options are its own."""
    torchvision, wanted = torchvision_named(name)
    if shape[0] != 3:
        raise UsageError(
            f"{name} takes images of 3 channels but the dataset's have {shape[0]}",
            "set `dataset.channels: 3` where the dataset has it, or take a network of autosparse",
        )
    with building(name, "torchvision's function"):
        made: torch.nn.Module = torchvision.models.get_model(wanted, weights=None, num_classes=classes, **options)
    return made


def _identify_own(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    identity = identity_of(name, options)
    with guarded(name, f"running an image of {' x '.join(map(str, shape))} through"):
        structure = structure_of(
            label(name), lambda: own_network(name, shape, classes, **options), identity, shape, classes, device="cpu"
        )
    return {**identity, "structure": structure}


@models.register(name="FILE.py:FACTORY", pattern=PATTERN, identify=_identify_own, user_code=True)
def own_network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """User code: `factory(input_shape, classes, **options)` in a file or `package.module` that returns an nn.Module."""
    return call(name, load_factory(name), shape, classes, **options)  # type: ignore[no-any-return]
