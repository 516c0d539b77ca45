"""Image decoding: encoded images to arrays of one shape."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autosparse.backends import usable_cores
from autosparse.borders import first_line, is_out_of_memory
from autosparse.datasets._base import Array, Split
from autosparse.errors import AutosparseError, MissingData, StepError, UsageError
from autosparse.lazy_torch import numpy
from autosparse.text import listed

Encoded = Callable[[int], tuple[str, bytes]]  # number of an image -> its name in errors, and its file's bytes

_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> `PIL.Image.Transpose`
SET_SIZE = "set `dataset.size`, such as `size: 64`, to scale and crop them all alike"
"""Remedy for images of several sizes."""
_REMEDY, _SCAN = "remove or replace broken files", "`autosparse plan --scan` lists all of them"
_SHOWN = 5


def array_split(arrays: tuple[Array, Array], size: int | None) -> Split:
    """Return a split of pixels in memory, uint8 `[images, height, width, channels]`, scaled to `size` unless None."""
    pixels, labels = arrays
    if size is None or pixels.shape[1:3] == (size, size):
        return Split(labels, pixels.__getitem__)

    def read(numbers: Array) -> Array:
        from PIL import Image

        if pixels.shape[-1] not in (1, 3):
            raise UsageError(f"images of {pixels.shape[-1]} channels cannot be scaled", "leave `dataset.size` out")
        flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        return numpy.stack([_array(_fit(Image.fromarray(flat[number]), size)) for number in numbers])

    return Split(labels, read)


def encoded_split(encoded: Encoded, labels: Array, channels: int, size: int | None) -> Split:
    """Return a split of image files, decoded on reading to 1 (grey) or 3 (RGB) channels.

    Reading raises StepError for a file that is no image, and for images of several sizes without `size`.
    """

    def decode(number: int) -> Array | AutosparseError:
        try:
            return decoded(*encoded(number), channels, size)[1]
        except (StepError, MissingData) as error:
            return error

    def read(numbers: Array) -> Array:
        with ThreadPoolExecutor(min(32, usable_cores().value)) as pool:  # decoding releases the GIL
            results = list(pool.map(decode, numbers.tolist()))
        if broken := [result for result in results if isinstance(result, AutosparseError)]:
            raise _unreadable(broken, len(results))
        arrays = [result for result in results if not isinstance(result, AutosparseError)]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            odd = sorted(f"{width} x {height}" for height, width, _ in shapes)
            raise StepError(
                f"the images of the dataset differ in size ({', '.join(odd[:3])}{', ...' * (len(odd) > 3)})",
                SET_SIZE,
            )
        return numpy.stack(arrays)

    return Split(labels, read, encoded)


def _unreadable(broken: Sequence[AutosparseError], images: int) -> AutosparseError:
    # One error for all images that cannot be read.
    first = broken[0]
    if len(broken) == 1:
        return first
    messages = listed([error.message for error in broken], _SHOWN)
    return type(first)(f"{len(broken):,} of {images:,} images cannot be read: {messages}", f"{_REMEDY}; {_SCAN}")


def pixels_of(images: Any, where: str) -> Array:
    """Return images in any common form as uint8 `[images, height, width, channels]`. Raises UsageError otherwise.

    Arrays and tensors hold bytes, channels last, or floats from 0 to 1, channels first; lists hold these or PIL images.
    """
    if isinstance(images, list | tuple):
        arrays = [_plain(image) for image in images]
        shapes = {array.shape for array in arrays}
        if len(shapes) != 1:
            problem = f"of one shape but there are {', '.join(sorted(map(str, shapes))[:3])}" if shapes else "there"
            raise UsageError(f"{where}: images must be {problem}")
        pixels = numpy.stack(arrays)
    else:
        pixels = numpy.asarray(images)
    if pixels.dtype == object:
        kind = type(pixels.flat[0]).__name__ if pixels.size else "nothing"
        raise UsageError(f"{where}: images must be arrays, tensors or PIL images but are of type {kind}")
    if pixels.ndim not in (3, 4):
        raise UsageError(f"{where}: images must be [images, height, width, channels] but are {list(pixels.shape)}")
    floats = numpy.issubdtype(pixels.dtype, numpy.floating)
    if grey := pixels.ndim == 3:
        pixels = pixels[..., None]
    # Channels are last in bytes and first in floats, unless only the other end has one or three.
    at_start, at_end = pixels.shape[1] in (1, 3), pixels.shape[3] in (1, 3)
    first = not grey and (at_start or not at_end if floats else at_start and not at_end)
    if floats:
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=1))
        if not (low >= 0 and high <= 1):
            raise UsageError(
                f"{where}: images of floats must lie from 0 to 1 but reach from {low:g} to {high:g}",
                "divide them by 255, or give bytes"
                if low >= 0 and 1 < high <= 255
                else "leave normalization out: autosparse normalizes by the training images' mean and spread",
            )
        pixels = numpy.rint(pixels * 255).astype("uint8")
    elif pixels.dtype == bool:
        pixels = pixels.astype("uint8") * 255
    elif pixels.dtype != numpy.uint8:
        raise UsageError(f"{where}: images must be uint8, or floats from 0 to 1, but are {pixels.dtype}")
    return numpy.ascontiguousarray(pixels.transpose(0, 2, 3, 1) if first else pixels)


def shape_of(images: Iterable[tuple[str, bytes]], channels: int) -> tuple[int, int, int]:
    """Return channels, height and width of the first of named image files that can be decoded.

    Raises:
        StepError: If none can be decoded.
    """
    messages: list[str] = []
    for name, data in images:
        try:
            height, width, _ = decoded(name, data, channels, None)[1].shape
        except StepError as error:
            messages.append(error.message)
        else:
            return (channels, height, width)
    if not messages:
        raise StepError("the dataset has no image")
    number = len(messages)
    problem = f"none of {number:,} images can be decoded: {listed(messages, _SHOWN)}" if number > 1 else messages[0]
    raise StepError(problem, _REMEDY)  # without a shape there is no plan, and so no scan


def decoded(name: str, data: bytes, channels: int, size: int | None) -> tuple[str, Array]:
    """Return the mode of an image file, such as `RGB` or `CMYK`, and its pixels.

    Raises:
        StepError: If the file cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            mode = str(picture.mode)
            converted = _bytes(_upright(picture)).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        what = "its image format is unknown" if data else "it is empty"
        raise StepError(f"{name} cannot be decoded: {what}", f"{_REMEDY}; {_SCAN}") from None
    except Exception as error:  # decoders raise any type
        if is_out_of_memory(error):
            raise
        reason = (first_line(error) or type(error).__name__).rstrip(".")
        raise StepError(f"{name} cannot be decoded: {reason}", f"{_REMEDY}; {_SCAN}") from error
    return mode, _array(converted if size is None else _fit(converted, size))


def _plain(image: Any) -> Array:
    """Return an image as an array; a PIL image is rotated upright, and converted to RGB from palette or CMYK."""
    from PIL import Image

    if isinstance(image, Image.Image):
        image = _upright(image)
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            image = _bytes(image).convert("RGB")
    return numpy.asarray(image)


def _upright(picture: Any) -> Any:
    """Rotate a picture by its EXIF orientation: cameras store pixels in sensor order."""
    from PIL import ExifTags

    picture.load()  # Pillow rotates TIFF files while loading
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # damaged EXIF data: no orientation
        if is_out_of_memory(error):
            raise
        return picture
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _bytes(picture: Any) -> Any:
    # Pillow would clip 16-bit grey at 255, and warn of a palette with transparency.
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray((numpy.asarray(picture) >> 8).astype("uint8"))
    if picture.mode in ("I", "F"):
        raise ValueError(f"its pixels are of {picture.mode!r}, 32 bits without a known range")
    return picture.convert("RGBA") if "transparency" in picture.info else picture


def _fit(picture: Any, size: int) -> Any:
    # Scale the shorter side to `size` and crop the longer one to its middle: no distortion.
    from PIL import Image, ImageOps

    return picture if picture.size == (size, size) else ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)


def _array(picture: Any) -> Array:
    array = numpy.asarray(picture, dtype="uint8")
    return array[..., None] if array.ndim == 2 else array
