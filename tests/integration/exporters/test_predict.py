"""The generated `predict.py`: pixels as the `data` step stores them, labels and probabilities as the pipeline's."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import helper
from PIL import ExifTags, Image

from autosparse.core.images import Images
from autosparse.datasets.decode import decoded, encoded_split
from autosparse.exporters import Preprocessing, Signature, exporters
from autosparse.exporters.shrunk import onnx_files
from tests.unit.exporters.test_formats import pruned

SIZE = 12
MEAN, STD = (0.1, 0.45, 0.7), (0.2, 0.3, 0.1)


def signature(channels: int, size: tuple[int, int] = (SIZE, SIZE)) -> Signature:
    """A signature with two named classes."""
    shape = (channels, *size)
    return Signature.of(shape, 2, ["no", "yes"], Preprocessing.of(shape, MEAN[:channels], STD[:channels]))


def program(channels: int) -> onnx.ModelProto:
    """An ONNX model that returns its input."""
    sides: list[str | int | None] = ["batch", channels, SIZE, SIZE]
    inputs, outputs = ([helper.make_tensor_value_info(name, 1, sides)] for name in ("images", "logits"))
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["logits"])], "model", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def imported(folder: Path, about: Signature, channels: int) -> Any:
    """Import `predict.py`, written to a folder with a model that has a signature."""
    for name, data in onnx_files(program(channels), about).items():
        (folder / name).write_bytes(data)
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """Number of channels -> imported `predict.py`, next to a model with nothing to compute."""
    return {n: imported(tmp_path_factory.mktemp("model"), signature(n), n) for n in (1, 3)}


def noise(*shape: int, kind: str = "uint8") -> numpy.ndarray[Any, Any]:
    """Random pixels of the whole range."""
    random = numpy.random.default_rng(0)
    return random.integers(0, numpy.iinfo(kind).max + 1, shape).astype(kind)


def picture(mode: str, width: int = 30, height: int = 20) -> Image.Image:
    """A picture in a mode of Pillow."""
    return Image.fromarray(noise(height, width, 4), "RGBA").convert(mode)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def saved(mode: str, kind: str = "PNG", **sides: int) -> bytes:
    """The file of a picture in a mode of Pillow."""
    return file_of(picture(mode, **sides), kind)


def turned(orientation: int, kind: str) -> bytes:
    """A picture with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return file_of(picture("RGB"), kind, exif=exif)


def with_odd_exif() -> bytes:
    """A JPEG whose EXIF data is cut off."""
    data = file_of(picture("RGB"), "JPEG")
    segment = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


SIZES = ((SIZE, SIZE), (7, 7), (1, 1), (12, 40), (41, 12), (300, 17), (3, 50), (13, 13))
PICTURES: dict[str, Callable[[], bytes]] = {
    **{mode: partial(saved, mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")},
    **{f"{mode} JPEG": partial(saved, mode, "JPEG") for mode in ("CMYK", "L", "RGB")},
    **{f"turned {n} {kind}": partial(turned, n, kind) for n in range(10) for kind in ("JPEG", "TIFF")},
    **{f"{width} x {height}": partial(saved, "RGB", width=width, height=height) for width, height in SIZES},
    "palette with transparency": lambda: file_of(picture("P"), transparency=3),
    "GIF": lambda: file_of(picture("P"), "GIF", save_all=True, append_images=[picture("L")]),
    "16 bits": lambda: file_of(Image.fromarray(noise(20, 30, kind="uint16"))),
    "16-bit TIFF": lambda: file_of(Image.fromarray(noise(20, 30, kind="uint16")), "TIFF"),
    "odd EXIF": with_odd_exif,
}


def normalized(pixels: numpy.ndarray[Any, Any], about: Signature) -> numpy.ndarray[Any, Any]:
    """The input of a network for one image of the `data` step, `[height, width, channels]`."""
    images = about.images
    assert images is not None
    stored = Images(torch.empty(0), torch.empty(0), torch.tensor(images.mean), torch.tensor(images.std))
    return stored.normalize(torch.from_numpy(pixels[None].copy())).numpy()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", PICTURES)
def test_pixels_are_those_that_the_data_step_stores(scripts: dict[int, Any], kind: str, channels: int) -> None:
    """Bit for bit after normalization: any mode, orientation, depth and size."""
    data = PICTURES[kind]()
    _, pixels = decoded(kind, data, channels, SIZE)

    result = scripts[channels].preprocess(io.BytesIO(data))

    assert ("float32", (1, channels, SIZE, SIZE)) == (result.dtype, result.shape)
    assert numpy.array_equal(normalized(pixels, signature(channels)), result)


def test_sets_without_a_size_keep_their_shape(tmp_path: Path) -> None:
    """Height and width are not mixed up; pictures of another size, which no such set has, are fitted to it."""
    about = signature(3, (8, 20))
    script = imported(tmp_path, about, 3)
    _, pixels = decoded("wide", saved("RGB", width=20, height=8), 3, None)

    assert numpy.array_equal(normalized(pixels, about), script.preprocess(io.BytesIO(saved("RGB", width=20, height=8))))
    assert (1, 3, 8, 20) == script.preprocess(io.BytesIO(saved("RGB"))).shape


def test_labels_and_probabilities_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Also of a copy elsewhere. A picture that cannot be read is one line and exit code 2; the others are answered."""
    names = {"a.png": file_of(picture("RGB", 40, 16)), "b.jpg": file_of(picture("L", 16, 21), "JPEG")}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    broken = {"empty.png": b"", "cut.png": names["a.png"][:-200], "text.jpg": b"no picture", "deep.tif": b"II*\x00\xff"}
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "depth.tif").write_bytes(file_of(Image.fromarray(noise(9, 9).astype("float32")), "TIFF"))
    classes = [f"class {number}" for number in range(10)]
    images = Preprocessing.of((3, 16, 16), MEAN, STD)
    model = replace(pruned("mlp", (3, 16, 16)), signature=Signature.of((3, 16, 16), 10, classes, images))
    files = exporters["onnx"].function(model)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    asked = [*names, *broken, "depth.tif", "missing.png", "."]
    ended = subprocess.run(
        [sys.executable, tmp_path / "predict.py", *asked], cwd=tmp_path, capture_output=True, text=True
    )

    split = encoded_split(lambda number: (str(number), [*names.values()][number]), numpy.zeros(2, "int64"), 3, 16)
    pixels = torch.from_numpy(split.read(numpy.arange(2)))
    stored = Images(pixels, torch.zeros(2), torch.tensor(MEAN), torch.tensor(STD))
    assert model.network is not None
    network = model.network().eval()
    network.load_state_dict(dict(model.state))
    with torch.no_grad():
        odds = network(stored.normalize(pixels)).softmax(dim=1)
    lines = [line.split("  ") for line in ended.stdout.splitlines()]
    assert {"model.onnx", "predict.py"} == {*files}
    assert [*names] == [name for name, _, _ in lines]
    assert [classes[number] for number in odds.argmax(dim=1)] == [label for _, label, _ in lines]
    assert odds.amax(dim=1).tolist() == pytest.approx([float(share) for *_, share in lines], abs=1e-4)
    assert 2 == ended.returncode
    assert asked[2:] == [line.partition(":")[0] for line in ended.stderr.splitlines()]


@pytest.mark.parametrize("about", [None, Signature.of((2, 4, 4), 10), signature(2)])
def test_a_model_of_unknown_or_odd_images_has_no_predict(about: Signature | None) -> None:
    """No picture file has two channels, and an exported network may come without its preprocessing."""
    assert onnx_files(program(2), about) == onnx_files(program(2), about)
    assert ["model.onnx"] == [*onnx_files(program(2), about)]
