"""Every registered dataset keeps what it promises: a new one needs a line in `FILES` and no test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torchvision

from autosparse.datasets import builtin, datasets, open_source
from autosparse.datasets.builtin import _CIFAR100, _SVHN
from tests.unit.datasets.conftest import encoded, write_parquet, write_pictures
from tests.unit.datasets.test_builtin import write_cifar, write_idx

Patch = pytest.MonkeyPatch


def arrays(kind: str) -> Callable[[Path, Patch], dict[str, Any]]:
    """Options of a set of torchvision whose reading of files is replaced: they are large, or not to be written here."""

    def write(root: Path, patch: Patch) -> dict[str, Any]:
        class Published:
            def __init__(self, root: str, *, train: bool = True, split: str = "train") -> None:
                count = {"CIFAR100": (50_000, 10_000), "SVHN": (73_257, 26_032)}[kind][not train or split == "test"]
                shape = (count, 3, 32, 32) if kind == "SVHN" else (count, 32, 32, 3)
                self.data = numpy.zeros(shape, "uint8")
                self.labels = numpy.arange(count) % (10 if kind == "SVHN" else 100)

        for name in {"CIFAR100": _CIFAR100, "SVHN": _SVHN}[kind].files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        patch.setattr(torchvision.datasets, kind, Published)
        return {"root": str(root)}

    return write


def tiny(root: Path, patch: Patch) -> dict[str, Any]:
    """Three classes in Tiny ImageNet's layout."""
    names = ("n01", "n02", "n03")
    base = root / "tiny-imagenet-200"
    write_pictures(base, {**{f"train/{name}/images": 12 for name in names}, "val/images": 6}, size=(64, 64))
    lines = [f"{number:04d}.png\t{names[number % 3]}\t0\t0\t1\t1" for number in range(6)]
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines))
    patch.setattr(builtin, "_TINY_IMAGES", (36, 6, 3))
    return {"root": str(root), "validation": 5}


def parquet(root: Path, patch: Patch) -> dict[str, Any]:
    """Thirty pictures in one file."""
    write_parquet(root / "a.parquet", {"image": encoded(30), "label": [0, 1, 2] * 10})
    return {"path": str(root)}


def user_function(root: Path, patch: Patch) -> dict[str, Any]:
    """A file of one's own."""
    (root / "mine.py").write_text(
        "import numpy\ndef load():\n    return {'train': (numpy.zeros((30, 4, 4, 3), 'uint8'), numpy.arange(30) % 3)}"
    )
    return {}


FILES: dict[str, Callable[[Path, Patch], dict[str, Any]]] = {
    "digits": lambda root, patch: {"validation": 300, "test": 300},
    "mnist": lambda root, patch: {"root": str(write_idx(root)), "validation": 5000},
    "fashion_mnist": lambda root, patch: {"root": str(write_idx(root, "FashionMNIST")), "validation": 5000},
    "cifar10": lambda root, patch: {"root": str(write_cifar(root, patch)), "validation": 5000},
    "cifar100": arrays("CIFAR100"),
    "svhn": arrays("SVHN"),
    "image_folder": lambda root, patch: {"root": str(write_pictures(root, {"a": 12, "b": 12, "c": 12}))},
    "tiny_imagenet": tiny,
    "parquet": parquet,
    "FILE.py:FACTORY": user_function,
}


@pytest.mark.parametrize(
    "entry",
    [pytest.param(one, id=one.name, marks=pytest.mark.slow if one.name == "cifar10" else ()) for one in datasets],
)
def test_a_dataset_gives_what_it_promises(entry: Any, tmp_path: Path, monkeypatch: Patch) -> None:
    """Bytes with channels last, labels in range, three non-empty splits, and the same on a second call."""
    options = FILES[entry.name](tmp_path, monkeypatch)
    name = f"{tmp_path / 'mine.py'}:load" if entry.pattern else entry.name
    source = open_source(name, options)
    again = open_source(name, options)
    splits, others = source.load(), again.load()

    assert source.missing() is None
    assert source.identity == again.identity
    assert str(tmp_path) not in str(source.identity)
    assert (source.train_images, source.test_images) == (len(splits["train"].labels), len(splits["test"].labels))
    for purpose in ("train", "validation", "test"):
        split, other = splits[purpose], others[purpose]
        some = numpy.arange(len(split.labels))[:50]
        pixels = split.read(some)
        channels, height, width = source.shape

        assert numpy.uint8 == pixels.dtype
        assert (len(some), height, width, channels) == pixels.shape
        assert numpy.int64 == split.labels.dtype
        assert 0 <= split.labels.min() <= split.labels.max() < source.classes
        assert split.labels.tolist() == other.labels.tolist()
        assert pixels.tolist() == other.read(some).tolist()


def test_every_dataset_is_tested() -> None:
    """A new dataset has files to be tested with."""
    assert {entry.name for entry in datasets} == set(FILES)
