"""Built-in datasets: scikit-learn's digits, the field's small benchmarks of torchvision, and Tiny ImageNet."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from autosparse.borders import expand
from autosparse.datasets._base import Pool, Problem, Split, datasets
from autosparse.datasets.decode import array_split
from autosparse.datasets.image_folder import files_split, images_by_class
from autosparse.errors import MissingData
from autosparse.lazy_torch import numpy
from autosparse.registry import FilePath

_ROOT = "~/.cache/torchvision"
_DIGITS = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"
_TINY = "tiny-imagenet-200"
_TINY_IMAGES = (100_000, 10_000, 200)  # training images, test images, classes
_TINY_URL, _TINY_MD5 = f"http://cs231n.stanford.edu/{_TINY}.zip", "90528d7ca1a48142e341f4ef8d21d0de"
_OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"
_CLOTHES = "t-shirt/top trouser pullover dress coat sandal shirt sneaker bag boot"
_HUNDRED = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm"""
_TINY_CLASSES = """n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384 n01774750
n01784675 n01855672 n01882714 n01910747 n01917289 n01944390 n01945685 n01950731 n01983481 n01984695 n02002724 n02056570
n02058221 n02074367 n02085620 n02094433 n02099601 n02099712 n02106662 n02113799 n02123045 n02123394 n02124075 n02125311
n02129165 n02132136 n02165456 n02190166 n02206856 n02226429 n02231487 n02233338 n02236044 n02268443 n02279972 n02281406
n02321529 n02364673 n02395406 n02403003 n02410509 n02415577 n02423022 n02437312 n02480495 n02481823 n02486410 n02504458
n02509815 n02666196 n02669723 n02699494 n02730930 n02769748 n02788148 n02791270 n02793495 n02795169 n02802426 n02808440
n02814533 n02814860 n02815834 n02823428 n02837789 n02841315 n02843684 n02883205 n02892201 n02906734 n02909870 n02917067
n02927161 n02948072 n02950826 n02963159 n02977058 n02988304 n02999410 n03014705 n03026506 n03042490 n03085013 n03089624
n03100240 n03126707 n03160309 n03179701 n03201208 n03250847 n03255030 n03355925 n03388043 n03393912 n03400231 n03404251
n03424325 n03444034 n03447447 n03544143 n03584254 n03599486 n03617480 n03637318 n03649909 n03662601 n03670208 n03706229
n03733131 n03763968 n03770439 n03796401 n03804744 n03814639 n03837869 n03838899 n03854065 n03891332 n03902125 n03930313
n03937543 n03970156 n03976657 n03977966 n03980874 n03983396 n03992509 n04008634 n04023962 n04067472 n04070727 n04074963
n04099969 n04118538 n04133789 n04146614 n04149813 n04179913 n04251144 n04254777 n04259630 n04265275 n04275548 n04285008
n04311004 n04328186 n04356056 n04366367 n04371430 n04376876 n04398044 n04399382 n04417672 n04456115 n04465501 n04486054
n04487081 n04501370 n04507155 n04532106 n04532670 n04540053 n04560804 n04562935 n04596742 n04597913 n06596364 n07579787
n07583066 n07614500 n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607 n07749582 n07753592 n07768694
n07871810 n07873807 n07875152 n07920052 n09193705 n09246464 n09256479 n09332890 n09428293 n12267677"""
"""Published WordNet ids: names of classes do not change with a download, and neither do the keys that hold them."""


Root = Annotated[str, FilePath(), "folder of torchvision's files, also for downloads"]
TinyRoot = Annotated[str, FilePath(), f"folder of {_TINY}, also for downloads"]
Download = Annotated[bool, "download missing files"]


@datasets.register(validation=300, test=300)
def digits() -> Pool:
    """1,797 handwritten digits of 8 x 8 pixels, in scikit-learn; split 1,197 / 300 / 300 in a fixed shuffled order."""

    def load(size: int | None) -> dict[str, Split]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = numpy.rint(bunch.images * (255 / 16)).astype("uint8")[..., None]
        labels = bunch.target.astype("int64")
        if (digest := hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()) != _DIGITS:
            raise MissingData(
                f"scikit-learn's digits are not the published ones: sha256 {digest[:12]}, not {_DIGITS[:12]}"
            )
        return {"train": array_split((pixels, labels), size)}

    identity = {"name": "digits", "sha256": _DIGITS}
    return Pool(identity, (1, 8, 8), tuple("0123456789"), Counter(train=1797), load)


@dataclass(frozen=True)
class _Published:
    # A set of torchvision: its class there, the published digests, and the contents of `root`.
    dataset: str
    help: str
    name: str
    kind: str
    md5: str | Sequence[str]
    files: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: str
    images: Mapping[str, int]
    parts: Mapping[str, Mapping[str, Any]]
    """options of the torchvision class for each split"""

    def register(self) -> None:
        """Register the set under its name."""

        def published(*, root: Root = _ROOT, download: Download = False) -> Pool:
            return self._pool(expand(root), download=download)

        published.__doc__ = self.help
        datasets.register(name=self.dataset, validation=5000)(published)

    def _pool(self, folder: Path, *, download: bool) -> Pool:
        def load(size: int | None) -> dict[str, Split]:
            arrays = self._load(folder, download=download and self._missing(folder) is not None)
            return {purpose: array_split(part, size) for purpose, part in arrays.items()}

        return Pool(
            identity={"name": self.dataset, "md5": self.md5},
            shape=self.shape,
            classes=tuple(self.classes.split()),
            images=Counter(self.images),
            load=load,
            missing=lambda: self._missing(folder),
            fetches=download,
        )

    def _missing(self, folder: Path) -> Problem | None:
        absent = next((name for name in self.files if not (folder / name).is_file()), None)
        fetch = f"torchvision.datasets.{self.kind}({os.fspath(folder)!r}, "
        options = ["".join(f"{key}={value!r}, " for key, value in part.items()) for part in self._fetches]
        code = f"import torchvision; {'; '.join(f'{fetch}{option}download=True)' for option in options)}"
        return _absent(self.name, folder, absent, code, self.dataset) if absent else None

    @property
    def _fetches(self) -> Sequence[Mapping[str, Any]]:
        # One call downloads both parts, except where each part is a separate file.
        return [*self.parts.values()] if self.parts == _SPLITS else [{}]

    def _load(self, folder: Path, *, download: bool) -> dict[str, tuple[Any, Any]]:
        import torchvision.datasets

        kind = getattr(torchvision.datasets, self.kind)
        if download:
            with _fetching(self.name, folder):
                for part in self._fetches:
                    kind(os.fspath(folder), **part, download=True)
        try:  # torchvision compares most files with their published digests before it reads them
            arrays = {purpose: _arrays(kind(os.fspath(folder), **part)) for purpose, part in self.parts.items()}
            for purpose, (_, labels) in arrays.items():
                if len(labels) != self.images[purpose]:
                    raise ValueError(f"{len(labels)} images where {self.images[purpose]} were published")
            return arrays
        except (RuntimeError, ValueError, OSError, EOFError, AssertionError, LookupError) as error:
            what = str(error) or "they are cut off"
            raise MissingData(
                f"the files of {self.name} in {folder} are not the published ones: {what}",
                "remove them and fetch the set again",
            ) from error


@contextmanager
def _fetching(name: str, folder: Path) -> Iterator[None]:
    """Create the folder of a download. Raises MissingData when this or the download fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError, EOFError) as error:
        raise MissingData(
            f"{name} cannot be fetched to {folder}: {error}",
            "fetch it elsewhere, and name its folder in `dataset.root`",
        ) from error


def _arrays(dataset: Any) -> tuple[Any, Any]:
    # uint8 [images, height, width, channels], whatever torchvision's order, and int64 labels.
    pixels = numpy.asarray(dataset.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    elif pixels.shape[1] == 3 and pixels.shape[-1] != 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return numpy.ascontiguousarray(pixels), numpy.asarray(labels, dtype="int64")


def _absent(name: str, folder: Path, absent: str, code: str, dataset: str) -> Problem:
    return (
        f"{name} is not in {folder} ({absent} is missing)",
        f'run `python -c "{code}"`, or set `dataset: {{name: {dataset}, download: true}}`',
    )


_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_SPLITS = {"train": {"split": "train"}, "test": {"split": "test"}}
_LAYOUT = [f"raw/{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]

_MNIST = _Published(
    "mnist", "70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998).", "MNIST", "MNIST",
    [
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432", "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ],
    tuple(f"MNIST/{file}" for file in _LAYOUT), (1, 28, 28), "0 1 2 3 4 5 6 7 8 9",
    {"train": 60_000, "test": 10_000}, _TRAIN,
)  # fmt: skip
_FASHION = _Published(
    "fashion_mnist", "70,000 pictures of clothes, 28 x 28 pixels in ten classes (Xiao et al. 2017).",
    "FashionMNIST", "FashionMNIST",
    [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe", "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
    tuple(f"FashionMNIST/{file}" for file in _LAYOUT), (1, 28, 28), _CLOTHES,
    {"train": 60_000, "test": 10_000}, _TRAIN,
)  # fmt: skip
_CIFAR10 = _Published(
    "cifar10", "60,000 colour photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009).", "CIFAR-10", "CIFAR10",
    "c58f30108f718f92721af3b95e74349a",
    (*(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)), "cifar-10-batches-py/test_batch"),
    (3, 32, 32), _OBJECTS, {"train": 50_000, "test": 10_000}, _TRAIN,
)  # fmt: skip
_CIFAR100 = _Published(
    "cifar100", "60,000 colour photographs of 32 x 32 pixels in a hundred classes (Krizhevsky 2009).",
    "CIFAR-100", "CIFAR100", "eb9058c3a382ffc7106e4002c42a8d85", ("cifar-100-python/train", "cifar-100-python/test"),
    (3, 32, 32), _HUNDRED, {"train": 50_000, "test": 10_000}, _TRAIN,
)  # fmt: skip
_SVHN = _Published(
    "svhn", "99,289 house numbers' digits, 32 x 32 pixels in colour (Netzer et al. 2011).", "SVHN", "SVHN",
    ["e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3"],
    ("train_32x32.mat", "test_32x32.mat"), (3, 32, 32), "0 1 2 3 4 5 6 7 8 9",
    {"train": 73_257, "test": 26_032}, _SPLITS,
)  # fmt: skip

for _published in (_MNIST, _FASHION, _CIFAR10, _CIFAR100, _SVHN):
    _published.register()


@datasets.register(validation=10_000)
def tiny_imagenet(*, root: TinyRoot = _ROOT, download: Download = False) -> Pool:
    """Tiny ImageNet: 110,000 photographs of 64 x 64 pixels in 200 classes; its validation images are tested on."""
    folder = expand(root)
    base = folder / _TINY

    def missing() -> Problem | None:
        if (base / "val" / "val_annotations.txt").is_file() and (base / "train").is_dir():
            return None
        code = (
            "from torchvision.datasets.utils import download_and_extract_archive as fetch; "
            f"fetch({_TINY_URL!r}, {os.fspath(folder)!r}, md5={_TINY_MD5!r})"
        )
        return _absent("Tiny ImageNet", folder, _TINY, code, "tiny_imagenet")

    def load(size: int | None) -> dict[str, Split]:
        if missing() is not None and download:
            from torchvision.datasets.utils import download_and_extract_archive

            with _fetching("Tiny ImageNet", folder):
                download_and_extract_archive(_TINY_URL, os.fspath(folder), md5=_TINY_MD5, remove_finished=True)
        train = images_by_class(base / "train")
        held: dict[str, list[Path]] = {name: [] for name in train}
        for line in (base / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines():
            name, wordnet, *_ = f"{line}\t".split("\t")
            if wordnet in held:
                held[wordnet].append(base / "val" / "images" / name)
        counts = (*(sum(map(len, files.values())) for files in (train, held)), len(train))
        if counts != _TINY_IMAGES:
            raise MissingData(
                "{} holds {} and {} images in {} classes, not {} and {} in {}".format(base, *counts, *_TINY_IMAGES),
                "remove it and fetch the set again",
            )
        return {"train": files_split(train, 3, size), "test": files_split(held, 3, size)}

    images, tested, _ = _TINY_IMAGES
    return Pool(
        identity={"name": "tiny_imagenet", "md5": _TINY_MD5},
        shape=(3, 64, 64),
        classes=tuple(_TINY_CLASSES.split()),
        images=Counter(train=images, test=tested),
        load=load,
        missing=missing,
        fetches=download,
    )
