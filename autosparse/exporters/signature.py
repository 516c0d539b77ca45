"""Signature of a model: its task, class names, inputs, outputs and preprocessing, as a server needs them.

`card_fields`, `onnx_metadata` and `hub_config` write it to `card.json`, to ONNX's `metadata_props` and to the hub's
`config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from annotated_types import Ge, Gt
from pydantic import ConfigDict

INPUT, OUTPUT, BATCH = "images", "logits", "batch"

Channels = Literal["RGB", "L"]
"""Colour or grey, as a mode of Pillow."""
Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
"""Filters of Pillow, in the order of their numbers."""
CHANNELS: dict[int, Channels] = {3: "RGB", 1: "L"}


@dataclass(frozen=True)
class Preprocessing:
    """Steps from an upright picture of any size to the input: convert, resize and crop, scale, normalize.

    The defaults are the steps of autosparse's datasets: Pillow's `ImageOps.fit`, which does not distort, and
    `(pixels / max_value - mean) / std`, channel by channel.

    Attributes:
        size: Height and width of the input in pixels.
        channels: Colours of the input; None if they are not those of a picture.
        mean: Mean of the training images' `pixels / max_value`, by channel.
        std: Standard deviation of the same, by channel.
        resize: Rule that sets the scale: the shorter side of the picture fills the input.
        interpolation: Filter of Pillow for the resize.
        crop: Part of the longer side that remains.
        max_value: Pixel value that scales to 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    size: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]
    channels: Channels | None
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Gt(0)], ...]
    resize: Literal["shorter_side"] = "shorter_side"
    interpolation: Interpolation = "bilinear"
    crop: Literal["center"] = "center"
    max_value: Annotated[int, Gt(0)] = 255

    @classmethod
    def of(cls, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """Return the preprocessing of autosparse's datasets.

        Args:
            shape: Shape of one image: (channels, height, width).
            mean: Mean by channel, of pixels scaled to 1.
            std: Standard deviation by channel, of pixels scaled to 1.

        Returns:
            Preprocessing with the default steps.

        Examples:
            >>> Preprocessing.of((1, 8, 8), [0.5], [0.25]).channels
            'L'
        """
        return cls((shape[1], shape[2]), CHANNELS.get(shape[0]), tuple(mean), tuple(std))


@dataclass(frozen=True)
class TensorSpec:
    """Input or output tensor of a model.

    Attributes:
        name: Name of the tensor in ONNX.
        shape: Shape, in which the side that follows the number of examples is `batch`.
        layout: Meaning of each side, such as `NCHW`.
        dtype: Type of the numbers.
    """

    name: str
    shape: tuple[str | int, ...]
    layout: str
    dtype: str = "float32"


@dataclass(frozen=True)
class Signature:
    """Facts that a server needs to call a model and to name its classes.

    Attributes:
        classes: Names in the order of the outputs; the indices as text where names are unknown.
        inputs: Input tensors.
        outputs: Output tensors.
        images: Preprocessing of a picture; None if unknown.
        task: Name of the task, as on the Hugging Face hub; None if unknown.
    """

    classes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    images: Preprocessing | None = None
    task: str | None = "image-classification"

    @classmethod
    def of(
        cls, shape: Sequence[int], classes: int, names: Sequence[str] = (), images: Preprocessing | None = None
    ) -> Signature:
        """Return the signature of a classifier of images.

        Args:
            shape: Shape of one image: (channels, height, width).
            classes: Number of classes.
            names: Their names in the order of the outputs; empty for indices.
            images: Preprocessing, if known.

        Returns:
            Signature with one input and one output.

        Raises:
            ValueError: If there are more or fewer names than classes.

        Examples:
            >>> Signature.of((3, 32, 32), 2).classes
            ('0', '1')
        """
        if names and len(names) != classes:
            raise ValueError(f"{len(names):,} names for {classes:,} classes")
        layout = "NCHW" if len(shape) == 3 else ""
        return cls(
            tuple(names) or tuple(map(str, range(classes))),
            (TensorSpec(INPUT, (BATCH, *shape), layout),),
            (TensorSpec(OUTPUT, (BATCH, classes), "NC"),),
            images,
        )

    @property
    def takes_pictures(self) -> bool:
        """True if the preprocessing of a picture file is known."""
        return self.images is not None and self.images.channels is not None


def card_fields(signature: Signature) -> dict[str, Any]:
    """Return the signature as fields of `card.json`.

    Args:
        signature: Signature of a model.

    Returns:
        JSON data: `task`, `classes`, `inputs`, `outputs`, and `images` if the preprocessing is known.
    """
    fields: dict[str, Any] = json.loads(json.dumps(asdict(signature)))  # tuples become lists
    return {name: value for name, value in fields.items() if value is not None}


def onnx_metadata(signature: Signature) -> dict[str, str]:
    """Return the signature as `metadata_props` of ONNX.

    Args:
        signature: Signature of a model.

    Returns:
        The fields of the card, in alphabetical order: text as it is, other values as JSON.
    """
    fields = sorted(card_fields(signature).items())
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields}


def hub_config(signature: Signature) -> dict[str, Any]:
    """Return the signature as fields of `config.json` on the Hugging Face hub.

    Args:
        signature: Signature of a model.

    Returns:
        JSON data: labels by index and indices by label if known, and the shape of the images.
    """
    names = signature.classes
    (_, *shape), *_ = (tensor.shape for tensor in signature.inputs)
    images: dict[str, Any] = {}
    if len(shape) == 3:
        channels, height, width = shape
        images = {"num_channels": channels, "image_size": height if height == width else [height, width]}
    labels = {
        "id2label": dict(zip(map(str, range(len(names))), names, strict=True)),
        "label2id": {name: number for number, name in enumerate(names)},
        "num_labels": len(names),
    }
    return {**(labels if names else {}), **images}


def hub_preprocessor(signature: Signature) -> dict[str, Any] | None:
    """Return `preprocessor_config.json` for the image processors of Hugging Face.

    Args:
        signature: Signature of a model.

    Returns:
        JSON data; None where no image processor does the same steps: for unknown steps, and inputs that are grey or
        not square.
    """
    images = signature.images
    if images is None or images.channels != "RGB" or images.size[0] != images.size[1]:
        return None
    side = images.size[0]
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": get_args(Interpolation).index(images.interpolation),
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / images.max_value,
        "do_normalize": True,
        "image_mean": list(images.mean),
        "image_std": list(images.std),
    }
