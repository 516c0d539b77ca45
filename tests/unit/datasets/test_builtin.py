"""The sets that torchvision knows: files, digests, downloads."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest
import torchvision
from torchvision.datasets.utils import download_and_extract_archive

from autosparse.datasets import builtin, open_source
from autosparse.datasets.builtin import _CIFAR10, _CIFAR100, _FASHION, _MNIST, _SVHN
from autosparse.errors import MissingData
from tests.unit.datasets.conftest import everything, load_all

KNOWN = torchvision.datasets
NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
ALL = (*NAMES, "tiny_imagenet")


def write_idx(root: Path, kind: str = "MNIST", train: int = 60_000, test: int = 10_000) -> Path:
    """Black images with labels that go round, as MNIST's files."""
    raw = root / kind / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        sizes = b"".join(number.to_bytes(4, "big") for number in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03" + sizes + bytes(count * 28 * 28))
        labels = (numpy.arange(count) % 10).astype("uint8").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01" + sizes[:4] + labels)
    return root


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's files with all images black but their first red, and torchvision's digests of them."""
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    listed = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        pixels = numpy.zeros((10_000, 3072), "uint8")
        pixels[:, 0] = 7
        data = pickle.dumps({"data": pixels, "labels": [number % 10 for number in range(10_000)]})
        (base / name).write_bytes(data)
        listed[name] = hashlib.md5(data).hexdigest()
    about = pickle.dumps({"label_names": ["c"] * 10})
    (base / "batches.meta").write_bytes(about)
    kind = KNOWN.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[name, listed[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [["test_batch", listed["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(about).hexdigest()})
    return root


def test_digests_are_those_that_torchvision_compares() -> None:
    """The name of a set in keys is the digest that torchvision checks its download with."""
    assert [digest for _, digest in KNOWN.MNIST.resources] == _MNIST.md5
    assert [digest for _, digest in KNOWN.FashionMNIST.resources] == _FASHION.md5
    assert KNOWN.CIFAR10.tgz_md5 == _CIFAR10.md5
    assert KNOWN.CIFAR100.tgz_md5 == _CIFAR100.md5
    assert [KNOWN.SVHN.split_list[part][2] for part in ("train", "test")] == _SVHN.md5


def test_files_are_those_that_torchvision_reads() -> None:
    """The files are those that torchvision would read."""
    cifar, hundred = KNOWN.CIFAR10, KNOWN.CIFAR100
    for kind, published in ((cifar, _CIFAR10), (hundred, _CIFAR100)):
        listed = [f"{kind.base_folder}/{name}" for name, _ in [*kind.train_list, *kind.test_list]]
        assert listed == list(published.files)
    assert [KNOWN.SVHN.split_list[part][1] for part in ("train", "test")] == list(_SVHN.files)
    for kind, published in ((KNOWN.MNIST, _MNIST), (KNOWN.FashionMNIST, _FASHION)):
        listed = [f"{kind.__name__}/raw/{name.removesuffix('.gz')}" for name, _ in kind.resources]
        assert listed == list(published.files)


def test_classes_have_the_names_that_torchvision_gives() -> None:
    """Classes are in the order of their numbers; a hundred in the order of the alphabet."""
    fashion = [name.lower().replace("ankle ", "") for name in KNOWN.FashionMNIST.classes]

    assert fashion == _FASHION.classes.split()
    assert 100 == len(set(_CIFAR100.classes.split()))
    assert sorted(_CIFAR100.classes.split()) == _CIFAR100.classes.split()
    assert [10] * 3 == [len(published.classes.split()) for published in (_MNIST, _CIFAR10, _SVHN)]


def test_mnist_is_loaded(tmp_path: Path) -> None:
    """Files of the published size give grey images, split 55,000 / 5,000 / 10,000, and one class at a time."""
    write_idx(tmp_path)
    source = open_source("mnist", {"root": str(tmp_path), "validation": 5000})
    splits = source.load()

    assert source.missing() is None
    assert [55_000, 5000, 10_000] == [len(s.labels) for s in (splits["train"], splits["validation"], splits["test"])]
    assert 10 == source.classes == len(numpy.unique(splits["train"].labels))
    assert (10_000, 28, 28, 1) == everything(splits["test"]).shape
    few = open_source("mnist", {"root": str(tmp_path), "classes": ("3", "8"), "images_per_class": 5, "validation": 10})
    assert [5, 5] == numpy.bincount(few.load()["train"].labels).tolist()


@pytest.mark.parametrize(
    ("train", "cut", "message"),
    [(59_999, None, "59999 images where 60000 were published"), (60_000, 5000, ""), (60_000, 2, ""), (60_000, 0, "")],
)
def test_other_files_are_not_the_set(tmp_path: Path, train: int, cut: int | None, message: str) -> None:
    """Files of another size, or cut off, are missing data, and the remedy is to fetch them again."""
    write_idx(tmp_path, train=train, test=10_000)
    if cut is not None:
        file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(
        MissingData, match=rf"the files of MNIST in .* are not the published ones: .*{message}"
    ) as caught:
        open_source("mnist", {"root": str(tmp_path)}).load()
    assert not caught.value.message.endswith(": ")
    assert "remove them and fetch the set again" == caught.value.hint


def test_cifar_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour images have their channels last."""
    root = str(write_cifar(tmp_path, monkeypatch))
    splits = open_source("cifar10", {"root": root, "validation": 5000}).load()

    assert [45_000, 5000, 10_000] == [len(s.labels) for s in (splits["train"], splits["validation"], splits["test"])]
    pixels = splits["test"].read(numpy.arange(5))
    assert ((5, 32, 32, 3), [7, 0, 0]) == (pixels.shape, pixels[0, 0, 0].tolist())
    assert (3, 8, 8) == open_source("cifar10", {"root": root, "size": 8}).shape


def test_a_damaged_cifar_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong byte, and the set is not the published one."""
    write_cifar(tmp_path, monkeypatch)
    with open(tmp_path / "cifar-10-batches-py" / "data_batch_3", "r+b") as file:
        file.write(b"!")

    with pytest.raises(MissingData, match=r"the files of CIFAR-10 in .* are not the published ones"):
        open_source("cifar10", {"root": str(tmp_path)}).load()


@pytest.mark.parametrize("name", ALL)
def test_what_is_missing_is_told_with_what_fetches_it(tmp_path: Path, name: str) -> None:
    """One sentence names the missing files, one gives a command; shape, classes and identity are known all the same."""
    source = open_source(name, {"root": str(tmp_path)})
    problem, hint = source.missing() or ("", "")

    assert f"is not in {tmp_path} (" in problem
    assert 'run `python -c "' in hint
    assert str(tmp_path) in hint
    assert f"`dataset: {{name: {name}, download: true}}`" in hint
    compile(hint.partition('"')[2].partition('"')[0], "command", "exec")
    assert source.known
    assert str(tmp_path) not in str(source.identity)
    assert source.identity == open_source(name, {"root": "elsewhere", "download": True}).identity
    with pytest.raises(MissingData):
        source.load()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_downloaded_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`download: true` lets torchvision fetch missing files, once, when the set is loaded; otherwise nothing does."""
    published = {"mnist": _MNIST, "fashion_mnist": _FASHION, "cifar10": _CIFAR10, "cifar100": _CIFAR100, "svhn": _SVHN}
    kind = getattr(KNOWN, published[name].kind)
    calls: list[str] = []

    def download(self: Any) -> None:
        calls.append(str(self.root))
        raise OSError("no network")

    monkeypatch.setattr(kind, "download", download)
    with pytest.raises(MissingData):
        open_source(name, {"root": str(tmp_path)}).load()
    source = open_source(name, {"root": str(tmp_path / "new"), "download": True})

    assert [] == calls
    assert source.fetches
    with pytest.raises(MissingData, match=r"cannot be fetched to .*new: no network"):
        source.load()
    assert [str(tmp_path / "new")] == calls


def test_a_download_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched files are loaded, and existing files are not fetched again."""
    calls = []

    def download(self: Any) -> None:
        calls.append(self.root)
        write_idx(Path(self.root))

    monkeypatch.setattr(KNOWN.MNIST, "download", download)
    source = open_source("mnist", {"root": str(tmp_path), "download": True})
    for _ in range(2):
        assert 10_000 == len(source.load()["test"].labels)

    assert [str(tmp_path)] == calls


def test_tiny_imagenet_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive of the published digest is asked of torchvision; what fails is missing data."""
    calls: list[Any] = []

    def fetch(*given: Any, **options: Any) -> None:
        calls.append((given, options["md5"]))
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(f"{download_and_extract_archive.__module__}.download_and_extract_archive", fetch)
    with pytest.raises(MissingData, match="Tiny ImageNet is not in"):
        open_source("tiny_imagenet", {"root": str(tmp_path)}).load()
    with pytest.raises(MissingData, match="Tiny ImageNet cannot be fetched"):
        open_source("tiny_imagenet", {"root": str(tmp_path), "download": True}).load()

    assert [((builtin._TINY_URL, str(tmp_path)), builtin._TINY_MD5)] == calls


@pytest.mark.parametrize("name", ALL)
def test_names_of_classes_do_not_wait_for_the_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in keys of emitted models: the same before and after a download, and part of no identity."""
    before = open_source(name, {"root": str(tmp_path)})
    for wordnet in ("n01443537", "n12267677"):
        (tmp_path / builtin._TINY / "train" / wordnet).mkdir(parents=True)
    (tmp_path / builtin._TINY / "val").mkdir()
    (tmp_path / builtin._TINY / "val" / "val_annotations.txt").touch()
    monkeypatch.setattr(builtin, "_TINY_IMAGES", (*builtin._TINY_IMAGES[:2], 2))
    after = open_source(name, {"root": str(tmp_path)})

    assert before.class_names == after.class_names
    assert before.classes == len({*before.class_names})
    assert [*before.class_names] == sorted(before.class_names) or name in ("fashion_mnist", "cifar10")
    assert before.identity == after.identity


def test_numbers_choose_classes_of_a_set_that_is_not_there(tmp_path: Path) -> None:
    """Two classes of ten: a fifth of the images, whether or not the files exist."""
    source = open_source("cifar10", {"root": str(tmp_path), "classes": ("cat", "dog"), "validation": 1000})

    assert (2, 9000, 2000) == (source.classes, source.train_images, source.test_images)
    assert [3, 5] == source.identity["classes"]


def test_mnist_in_colour_of_its_own(tmp_path: Path) -> None:
    """Fashion-MNIST lies in a separate folder, so both can share a root."""
    write_idx(tmp_path, "FashionMNIST")
    source = open_source("fashion_mnist", {"root": str(tmp_path), "images_per_class": 2, "validation": 100})

    assert source.missing() is None
    assert open_source("mnist", {"root": str(tmp_path)}).missing() is not None
    assert 20 == len(load_all(source)["train"].labels)
