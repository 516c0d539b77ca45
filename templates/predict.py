"""Classify pictures with `model.onnx`, next to this file, whose metadata has the classes and the preprocessing."""

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy
import onnxruntime
from PIL import ExifTags, Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
about = session.get_modelmeta().custom_metadata_map
classes, images = json.loads(about["classes"]), json.loads(about["images"])
(takes,), (gives,) = json.loads(about["inputs"]), json.loads(about["outputs"])
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> `Image.Transpose`


def preprocess(file: str | BinaryIO) -> "numpy.typing.NDArray[numpy.floating]":
    """Return a picture as the model's input, `[1, channels, height, width]`."""
    picture: Image.Image = Image.open(file)
    picture.load()
    with suppress(Exception):  # no EXIF data, or damaged
        picture = picture.transpose(Image.Transpose(TURNS[picture.getexif()[ExifTags.Base.Orientation]]))
    if picture.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits and no known range")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((numpy.asarray(picture) >> 8).astype("uint8"))  # Pillow would clip at 255
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    interpolation = Image.Resampling[images["interpolation"].upper()]
    picture = ImageOps.fit(picture.convert(images["channels"]), images["size"][::-1], interpolation)
    pixels = numpy.asarray(picture, "float32").reshape(*images["size"], -1) / images["max_value"]
    normalized = (pixels - numpy.float32(images["mean"])) / numpy.float32(images["std"])
    return numpy.asarray(normalized.transpose(2, 0, 1)[None], takes["dtype"])


def predict(file: str | BinaryIO) -> tuple[str, float]:
    """Return the most probable class of a picture, and its probability."""
    (logits,) = session.run([gives["name"]], {takes["name"]: preprocess(file)})
    odds = numpy.exp(logits[0] - logits[0].max())
    return classes[odds.argmax()], float(odds.max() / odds.sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="+")
    code = 0
    for path in parser.parse_args().picture:
        try:
            print("{}  {}  {:.4f}".format(path, *predict(path)))
        except Exception as error:  # decoders raise any type
            print(f"{path}: {error!r}", file=sys.stderr)
            code = 2
    sys.exit(code)
