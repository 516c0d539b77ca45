"""Registry of networks: a registered factory `(input_shape, classes, **options) -> torch.nn.Module`.

`input_shape` is (channels, height, width). Factories import network classes, so that naming a model does not import
torch. A factory with a pattern (`torchvision:NAME`) takes the name first; `identify` gives its cache identity, and
`config` its fields of the hub's `config.json`; `trained` separates the trained weights of a library from the options of
the network.

    @models.register
    def linear(shape, classes):
        "Single linear layer."
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from autosparse.core.layer_kinds import declare_layers
from autosparse.errors import UsageError
from autosparse.models.trained import Shape as Shape
from autosparse.models.trained import Weights
from autosparse.registry import FilePath, Registry

if TYPE_CHECKING:
    from autosparse.lazy_torch import torch


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Trained weights of a file, from which the network starts at every seed."""

    file: Annotated[
        str, FilePath(), "file of the network's state, `.safetensors`, `.pt` or `.pth`, known by its content"
    ]
    skip: Annotated[
        tuple[str, ...], "names or patterns of tensors that keep their random initialization, such as `fc.*`"
    ] = ()
    sha256: Annotated[
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        "sha256 of the file, by which machines without the file reuse results",
    ] = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Options of every model."""

    initialization: Annotated[
        Literal["default", "kaiming_normal", "kaiming_uniform", "orthogonal"] | Trained,
        "initialization of prunable weights: the network's default, He initialization by fan-in, or trained weights: "
        "`{file: weights.safetensors}`",
    ] = "default"
    prunable: Annotated[
        dict[str, Literal["linear", "transposed", "embedding"]] | None,
        "prunable parameters of other layers: name or pattern -> order of axes, linear [outputs, "
        "inputs], transposed [inputs, outputs], embedding [rows, features]",
    ] = None
    exclude: Annotated[tuple[str, ...], "names or patterns of parameters to leave unpruned, such as `head`"] = ()


models: Registry[Callable[..., torch.nn.Module]] = Registry("model", "models", shared=Start)


def split_start(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], Weights | None]:
    """Split a model's options into those of its structure and the trained weights that it starts from.

    Args:
        name: Name in YAML.
        options: Options of the model, as a spec has them.

    Returns:
        Options that build the network with random weights, and the trained weights, or None.

    Raises:
        UsageError: If the options name weights that do not exist, or two starts.

    Examples:
        >>> split_start("lenet", {"initialization": "orthogonal"})
        ({'initialization': 'orthogonal'}, None)
    """
    structure, weights, start = dict(options), None, options.get("initialization", "default")
    entry = models[name]
    if separate := entry.facts.get("trained"):
        given, shared = entry.apart(options)
        given, weights = separate(name, given)
        structure = {**given, **shared}
    if weights is not None and start != "default":
        written = "{file: ...}" if isinstance(start, Mapping) else start
        raise UsageError(f"`initialization: {written}` and {weights.name} are two starts of one network", "write one")
    if isinstance(start, Mapping):
        structure["initialization"], weights = "default", Weights.of_file(start)
    return structure, weights


def build_model(name: str, options: Mapping[str, Any], shape: Shape, classes: int) -> torch.nn.Module:
    """Build a network with fresh weights, drawn from torch's global generator.

    Args:
        name: Name in YAML, such as `resnet20` or `timm:vit_tiny_patch16_224`.
        options: Options of the structure, those of every model included: `split_start` separates trained weights.
        shape: Shape of one image: (channels, height, width).
        classes: Number of classes, the size of the output.

    Returns:
        The network, in training mode, on torch's default device.

    Raises:
        UsageError: If the name, an option or the shape is impossible.

    Examples:
        >>> network = build_model("lenet", {}, (1, 8, 8), 10)
        >>> sum(parameter.numel() for parameter in network.parameters())
        21386
    """
    entry = models[name]
    given, shared = entry.apart(options)
    network = entry.function(shape, classes, **given)
    start = Start(**shared)
    declare_layers(network, start.prunable, start.exclude)
    if isinstance(start.initialization, str) and start.initialization != "default":
        from autosparse.models.networks import draw

        draw(network, start.initialization)
    from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

    return avoid_narrow_strides(network)


def identify_model(name: str, options: Mapping[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    """Return a model's part of cache keys.

    Args:
        name: Name in YAML.
        options: Options of the structure, those of every model included.
        shape: Shape of one image: (channels, height, width).
        classes: Number of classes.

    Returns:
        JSON data: the name, and for models from elsewhere the digests of their source and structure, for which the
        network is built once.

    Raises:
        UsageError: If the model is invalid.

    Examples:
        >>> identify_model("lenet", {}, (1, 8, 8), 10)
        {'name': 'lenet'}
    """
    entry = models[name]
    if entry.pattern is None:
        return {"name": name}
    given, shared = entry.apart(options)
    identity: dict[str, Any] = entry.facts["identify"](name, given, shape, classes)
    if "options" in identity:  # these replace the options of the choice, so shared ones are added
        identity["options"] = {**identity["options"], **shared}
    return identity


def config_of(
    name: str,
    options: Mapping[str, Any],
    shape: Shape,
    labels: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Any]:
    """Return the fields of the hub's `config.json` by which a network's library builds it.

    Args:
        name: Name in YAML.
        options: Options of the model, those of every model included.
        shape: Shape of one image: (channels, height, width).
        labels: Names of the classes, in the order of the outputs.
        mean: Mean of the training images by channel, of pixels scaled to 1.
        std: Standard deviation of the same.

    Returns:
        JSON data; empty for networks of a library that reads no such file.

    Examples:
        >>> config_of("lenet", {}, (1, 28, 28), ["no", "yes"], mean=[0.5], std=[0.2])
        {}
    """
    entry = models[name]
    if "config" not in entry.facts:
        return {}
    given, _ = entry.apart(options)
    fields: dict[str, Any] = entry.facts["config"](name, given, shape, labels, mean=mean, std=std)
    return fields
