"""The field's small benchmarks, as torchvision keeps their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from autosparse.datasets._base import datasets
from autosparse.datasets.decode import array_split
from autosparse.datasets.source import Pool, Problem, Split, fetching
from autosparse.errors import MissingData, MissingExtra
from autosparse.registry import FilePath

Root = Annotated[str, FilePath(), "folder that holds, or is to hold, torchvision's files"]
Download = Annotated[bool, "fetch the files if they are not there"]

_ROOT = "~/.cache/torchvision"
_OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"
_CLOTHES = "t-shirt/top trouser pullover dress coat sandal shirt sneaker bag boot"
_HUNDRED = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm"""


@dataclass(frozen=True)
class _Published:
    # A set as torchvision knows it: its class there, the digest of what is published, and what lies in `root`.
    name: str
    kind: str
    identity: dict[str, Any]
    files: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: str
    train_images: int
    test_images: int
    parts: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})

    def pool(self, root: str, download: bool) -> Pool:
        folder = Path(root).expanduser()
        missing = partial(_missing, self, folder)

        def load(size: int | None) -> tuple[Split, None, Split]:
            train, test = _load(self, folder, download=download and missing() is not None)
            return array_split(train, size), None, array_split(test, size)

        return Pool(
            identity=self.identity,
            shape=self.shape,
            classes=tuple(self.classes.split()),
            train_images=self.train_images,
            test_images=self.test_images,
            load=load,
            missing=missing,
            fetches=download,
        )


def _idx(kind: str) -> tuple[str, ...]:
    whats = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{kind}/raw/{part}-{what}" for part in ("train", "t10k") for what in whats)


_MNIST = _Published(
    "MNIST",
    "MNIST",
    {
        "name": "mnist",
        "md5": [
            "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432", "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ],
    },
    _idx("MNIST"), (1, 28, 28), "0 1 2 3 4 5 6 7 8 9", 60_000, 10_000,
)  # fmt: skip
_FASHION = _Published(
    "FashionMNIST",
    "FashionMNIST",
    {
        "name": "fashion_mnist",
        "md5": [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe", "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ],
    },
    _idx("FashionMNIST"), (1, 28, 28), _CLOTHES, 60_000, 10_000,
)  # fmt: skip
_CIFAR10 = _Published(
    "CIFAR-10", "CIFAR10", {"name": "cifar10", "md5": "c58f30108f718f92721af3b95e74349a"},
    tuple(f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")),
    (3, 32, 32), _OBJECTS, 50_000, 10_000,
)  # fmt: skip
_CIFAR100 = _Published(
    "CIFAR-100", "CIFAR100", {"name": "cifar100", "md5": "eb9058c3a382ffc7106e4002c42a8d85"},
    ("cifar-100-python/train", "cifar-100-python/test"), (3, 32, 32), _HUNDRED, 50_000, 10_000,
)  # fmt: skip
_SVHN = _Published(
    "SVHN", "SVHN", {"name": "svhn", "md5": ["e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3"]},
    ("train_32x32.mat", "test_32x32.mat"), (3, 32, 32), "0 1 2 3 4 5 6 7 8 9", 73_257, 26_032,
    ({"split": "train"}, {"split": "test"}),
)  # fmt: skip


@datasets.register(validation=5000)
def mnist(*, root: Root = _ROOT, download: Download = False) -> Pool:
    """70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998)."""
    return _MNIST.pool(root, download)


@datasets.register(validation=5000)
def fashion_mnist(*, root: Root = _ROOT, download: Download = False) -> Pool:
    """70,000 pictures of clothes, 28 x 28 pixels in ten classes (Xiao et al. 2017)."""
    return _FASHION.pool(root, download)


@datasets.register(validation=5000)
def cifar10(*, root: Root = _ROOT, download: Download = False) -> Pool:
    """60,000 colour photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009)."""
    return _CIFAR10.pool(root, download)


@datasets.register(validation=5000)
def cifar100(*, root: Root = _ROOT, download: Download = False) -> Pool:
    """60,000 colour photographs of 32 x 32 pixels in a hundred classes (Krizhevsky 2009)."""
    return _CIFAR100.pool(root, download)


@datasets.register(validation=5000)
def svhn(*, root: Root = _ROOT, download: Download = False) -> Pool:
    """99,289 house numbers' digits, 32 x 32 pixels in colour (Netzer et al. 2011)."""
    return _SVHN.pool(root, download)


def _missing(published: _Published, folder: Path) -> Problem | None:
    absent = [name for name in published.files if not (folder / name).is_file()]
    if not absent:
        return None
    fetch = f"torchvision.datasets.{published.kind}({os.fspath(folder)!r}, "
    fetches = [fetch + "".join(f"{key}={value!r}, " for key, value in part.items()) for part in _calls(published)]
    return (
        f"{published.name} is not in {folder} ({absent[0]} is missing)",
        f'run `python -c "import torchvision; {"; ".join(f"{call}download=True)" for call in fetches)}"`, or set '
        f"`dataset: {{name: {published.identity['name']}, download: true}}`",
    )


def _calls(published: _Published) -> Sequence[dict[str, Any]]:
    # One call fetches both parts, except where a part is a file of its own.
    return published.parts if "split" in published.parts[0] else ({},)


def _load(published: _Published, folder: Path, *, download: bool) -> tuple[Any, Any]:
    try:
        import torchvision.datasets
    except ImportError as error:
        raise MissingExtra(f"{published.name} needs torchvision", "run `pip install torchvision`") from error
    kind = getattr(torchvision.datasets, published.kind)
    if download:
        with fetching(published.name, folder):
            for part in _calls(published):
                kind(os.fspath(folder), **part, download=True)
    try:  # torchvision compares most files with their published digests before it reads them
        train, test = (_arrays(kind(os.fspath(folder), **part)) for part in published.parts)
        for (_, labels), images in ((train, published.train_images), (test, published.test_images)):
            if len(labels) != images:
                raise ValueError(f"{len(labels)} images where {images} were published")
        return train, test
    except (RuntimeError, ValueError, OSError, EOFError, AssertionError, LookupError) as error:
        what = str(error) or "they are cut off"
        raise MissingData(
            f"the files of {published.name} in {folder} are not the published ones: {what}",
            "remove them and fetch the set again",
        ) from error


def _arrays(dataset: Any) -> tuple[Any, Any]:
    # uint8 [images, height, width, channels], whatever order torchvision keeps, and int64 labels.
    import numpy

    pixels = numpy.asarray(dataset.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    elif pixels.shape[1] == 3 and pixels.shape[-1] != 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return numpy.ascontiguousarray(pixels), numpy.asarray(labels, dtype="int64")
