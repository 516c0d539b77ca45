"""Pictures of every kind as bytes of one shape."""

from __future__ import annotations

import io
from typing import Any

import numpy
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from autosparse.datasets.decode import array_split, encoded_split, pixels_of, shape_of
from autosparse.errors import StepError, UsageError
from tests.unit.datasets.conftest import everything, picture


def decoded(data: bytes, channels: int = 3, size: int | None = None) -> Any:
    """The pixels of one file."""
    return encoded_split(lambda number: ("the file", data), numpy.zeros(1, "int64"), channels, size).read(
        numpy.arange(1)
    )[0]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (200, 10, 30), (200, 10, 30)),
        ("RGBA", (200, 10, 30, 128), (200, 10, 30)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 9), (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 40 * 256 + 3, (40, 40, 40)),
    ],
)
def test_colour_and_grey(mode: str, color: Any, expected: tuple[int, ...]) -> None:
    """Whatever a file has, it is read as three channels or as one; sixteen bits become eight."""
    data = picture(color, mode=mode)
    grey = round(0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2])

    assert (4, 6, 3) == decoded(data).shape
    assert {expected} == {tuple(pixel) for pixel in decoded(data).reshape(-1, 3).tolist()}
    assert (4, 6, 1) == decoded(data, channels=1).shape
    assert {grey} == set(decoded(data, channels=1).ravel().tolist())


def test_a_palette_with_transparency() -> None:
    """A palette's colours are read, and its transparency neither warns nor matters."""
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (255, 0, 0)).convert("P").save(file, "PNG", transparency=bytes(range(200)))

    assert [255, 0, 0] == decoded(file.getvalue())[0, 0].tolist()


def test_print_colours() -> None:
    """A JPEG in cyan, magenta, yellow and black is read as RGB."""
    assert (4, 6, 3) == decoded(picture((0, 0, 0, 0), kind="JPEG", mode="CMYK")).shape


def test_numbers_without_a_range_are_refused() -> None:
    """Floats and 32-bit integers have no white."""
    with pytest.raises(StepError, match="the file cannot be decoded: its pixels are of 'F'"):
        decoded(picture(0.5, kind="TIFF", mode="F"))


@pytest.mark.parametrize(("wide", "high"), [(40, 20), (20, 40), (20, 20)])
def test_scaling_keeps_the_aspect(wide: int, high: int) -> None:
    """The shorter side is scaled, and the middle of the longer one is kept."""
    image = Image.new("RGB", (wide, high), (255, 0, 0))
    image.paste((0, 255, 0), ((wide - 20) // 2, (high - 20) // 2, (wide + 20) // 2, (high + 20) // 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    pixels = decoded(file.getvalue(), size=10)

    assert (10, 10, 3) == pixels.shape
    assert [0, 255, 0] == pixels[5, 5].tolist() == pixels[1, 1].tolist()


def turned(orientation: Any, kind: str = "PNG") -> tuple[bytes, Image.Image]:
    """The file of a picture that is 6 wide and 4 high and has an EXIF orientation, and the picture as stored."""
    image = Image.fromarray(numpy.arange(6 * 4 * 3, dtype="uint8").reshape(4, 6, 3))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif)
    return file.getvalue(), image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_are_turned_upright(orientation: int, kind: str) -> None:
    """Decoding applies each of the eight EXIF orientations, also to the shape of the set."""
    data, stored = turned(orientation, kind)
    stored.getexif()[ExifTags.Base.Orientation] = orientation
    expected = numpy.asarray(ImageOps.exif_transpose(stored))

    assert expected.tolist() == decoded(data).tolist()
    assert (3, *expected.shape[:2]) == shape_of([("the file", data)], 3)


def test_jpeg_files_of_a_camera_are_turned() -> None:
    """A JPEG file that was taken upright is higher than wide."""
    assert (6, 4, 3) == decoded(turned(6, "JPEG")[0]).shape


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_unknown_orientations_are_ignored(orientation: int) -> None:
    """An orientation that EXIF does not define leaves a picture as stored."""
    data, stored = turned(orientation)

    assert numpy.asarray(stored).tolist() == decoded(data).tolist()


def test_damaged_exif_data_are_ignored() -> None:
    """A picture whose EXIF data cannot be read is decoded as stored."""
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (9, 9, 9)).save(file, "PNG", exif=b"Exif\x00\x00nonsense")

    assert (4, 6, 3) == decoded(file.getvalue()).shape


def test_pil_images_are_turned_and_converted() -> None:
    """PIL images of own code are turned by their EXIF orientation, and palettes become colours."""
    upright = Image.open(io.BytesIO(turned(6)[0]))
    palette = Image.new("RGB", (6, 4), (255, 0, 0)).convert("P")

    assert (1, 6, 4, 3) == pixels_of([upright], "here").shape
    assert [255, 0, 0] == pixels_of([palette], "here")[0, 0, 0].tolist()


def test_a_small_picture_is_enlarged() -> None:
    """One size for all: small pictures grow."""
    assert (16, 16, 1) == decoded(picture(5, size=(2, 3), mode="L"), channels=1, size=16).shape


def test_images_of_several_sizes() -> None:
    """Different sizes are an error that names the option; with the option, they load."""
    files = [picture(size=(6, 4)), picture(size=(4, 6)), picture(size=(5, 5)), picture(size=(7, 7))]

    def split(size: int | None) -> Any:
        return encoded_split(lambda number: (str(number), files[number]), numpy.zeros(4, "int64"), 3, size)

    with pytest.raises(StepError, match=r"differ in size \(4 x 6, 5 x 5, 6 x 4, \.\.\.\)") as caught:
        everything(split(None))
    assert "size: 64" in (caught.value.hint or "")
    assert (4, 8, 8, 3) == everything(split(8)).shape


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"no picture", "its image format is unknown"),
        (picture()[:40], "truncated|broken|unknown"),
        (picture(kind="JPEG", size=(40, 40))[:400], "Truncated"),
    ],
)
def test_a_broken_file_is_named(data: bytes, message: str) -> None:
    """An undecodable image is reported by name and without addresses in memory."""
    with pytest.raises(StepError, match=f"the file cannot be decoded: .*({message})") as caught:
        decoded(data)

    assert " at 0x" not in caught.value.message
    assert caught.value.hint


def test_only_what_is_read_is_decoded() -> None:
    """A split that is not read decodes nothing, and one that is decodes the requested images."""
    asked = []

    def encoded(number: int) -> tuple[str, bytes]:
        asked.append(number)
        return str(number), picture((number, 0, 0))

    split = encoded_split(encoded, numpy.arange(9), 3, None).part(numpy.array([8, 2, 5]))
    pixels = split.read(numpy.array([2, 0]))

    assert [5, 8] == sorted(asked)
    assert [5, 8] == pixels[:, 0, 0, 0].tolist()
    assert (3, 4, 6) == shape_of(map(encoded, range(9)), 3)


BYTES = numpy.arange(2 * 4 * 5 * 3, dtype="uint8").reshape(2, 4, 5, 3)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param(BYTES, BYTES, id="bytes, channels last"),
        pytest.param(BYTES.transpose(0, 3, 1, 2), BYTES, id="bytes, channels first"),
        pytest.param(torch.as_tensor(BYTES), BYTES, id="a tensor"),
        pytest.param(BYTES[..., 0], BYTES[..., :1], id="grey without channels"),
        pytest.param(BYTES[..., :1], BYTES[..., :1], id="grey"),
        pytest.param(list(BYTES), BYTES, id="a list of arrays"),
        pytest.param([torch.as_tensor(image) for image in BYTES], BYTES, id="a list of tensors"),
        pytest.param([Image.fromarray(image) for image in BYTES], BYTES, id="PIL images"),
        pytest.param(BYTES.transpose(0, 3, 1, 2) / 255, BYTES, id="floats, channels first"),
        pytest.param(BYTES / 255, BYTES, id="floats, channels last"),
        pytest.param(torch.as_tensor(BYTES[..., 0]).float() / 255, BYTES[..., :1], id="grey floats"),
        pytest.param(numpy.ones((2, 3, 8), "float32"), numpy.full((2, 3, 8, 1), 255), id="grey, three high"),
        pytest.param(numpy.zeros((2, 7, 5, 6)), numpy.zeros((2, 5, 6, 7)), id="seven channels of floats first"),
        pytest.param(numpy.zeros((2, 5, 6, 7), "uint8"), numpy.zeros((2, 5, 6, 7)), id="seven channels of bytes last"),
        pytest.param(BYTES[..., 0] > 9, (BYTES[..., :1] > 9) * 255, id="booleans"),
        pytest.param(numpy.zeros((1, 3, 4, 3)), numpy.zeros((1, 4, 3, 3)), id="floats, told by nothing"),
    ],
)
def test_images_of_every_usual_kind(images: Any, expected: Any) -> None:
    """Arrays, tensors and PIL images become bytes, channels last."""
    pixels = pixels_of(images, "here")

    assert numpy.uint8 == pixels.dtype
    assert numpy.array_equal(expected, pixels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((BYTES / 255).transpose(0, 3, 1, 2) - 0.5, "floats must lie from 0 to 1 but reach from -0.5 to"),
        (BYTES.astype("float32"), "floats must lie from 0 to 1 but reach from 0 to 119"),
        (numpy.full((1, 4, 4), numpy.nan), "reach from nan to nan"),
        (BYTES.astype("int64"), "must be uint8, or floats from 0 to 1, but are int64"),
        (BYTES[0, 0], r"must be \[images, height, width, channels\] but are \[5, 3\]"),
        ([BYTES[0], BYTES[0][:2]], r"must be of one shape but there are \(2, 5, 3\), \(4, 5, 3\)"),
        ([], "images must be there"),
        ([{"bytes": b"", "path": None}], "must be arrays, tensors or PIL images but are of type dict"),
    ],
)
def test_images_of_no_usual_kind(images: Any, message: str) -> None:
    """Invalid image data are reported with their source."""
    with pytest.raises(UsageError, match=f"here: images .*{message}|here: .*{message}"):
        pixels_of(images, "here")


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_scaled_when_they_are_read(channels: int) -> None:
    """Pixels in memory are scaled like files, and left alone at the size they have."""
    pixels = numpy.full((3, 4, 8, channels), 99, "uint8")
    labels = numpy.arange(3)

    assert numpy.full((3, 4, 4, channels), 99).tolist() == everything(array_split((pixels, labels), 4)).tolist()
    assert pixels.tolist() == everything(array_split((pixels, labels), None)).tolist()


def test_other_channels_are_not_scaled() -> None:
    """Seven channels are no picture: they keep their size, or it is an error."""
    split = array_split((numpy.zeros((2, 4, 4, 7), "uint8"), numpy.arange(2)), 2)

    with pytest.raises(UsageError, match="images of 7 channels cannot be scaled"):
        everything(split)


@pytest.mark.parametrize("part", ["convert", "getexif"])
def test_a_lack_of_memory_breaks_no_file(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """It is no broken image, and no image without an orientation."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, part, fail)
    with pytest.raises(MemoryError):
        decoded(picture())
