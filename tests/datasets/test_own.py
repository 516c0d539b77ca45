"""Sets of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.datasets import Source, open_source
from autosparse.errors import UsageError
from tests.datasets.conftest import everything

ARRAYS = """
import numpy
def images(count): return numpy.arange(count * 16, dtype="uint8").reshape(count, 4, 4)
def labels(count): return numpy.arange(count) % 3
"""


def opened(folder: Path, body: str, **options: Any) -> Source:
    """The source of `load` in a file of this text."""
    file = folder / "own.py"
    file.write_text(ARRAYS + body)
    return open_source(f"{file}:load", options)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("(images(30), labels(30)), (images(6), labels(6))", (27, 3, 6)),
        ("(images(30), labels(30)), (images(4), labels(4)), (images(6), labels(6))", (30, 4, 6)),
        ("{'train': (images(30), labels(30))}", (24, 3, 3)),
        ("images(30), labels(30)", (24, 3, 3)),
        ("{'train': (images(30), labels(30)), 'validation': None, 'test': (images(6), labels(6))}", (27, 3, 6)),
        ("[(images(30), labels(30)), ([], [])][:1] and ((images(30), labels(30)), (images(0), labels(0)))", (24, 3, 3)),
        ("(list(images(30)), list(labels(30))), (images(6) / 255, [0, 1, 2, 0, 1, 2])", (27, 3, 6)),
    ],
    ids=["two", "three", "train alone", "no splits", "a mapping", "an empty test", "lists"],
)
def test_what_a_factory_gives(tmp_path: Path, given: str, expected: tuple[int, ...]) -> None:
    """Training and test images, with or without validation images, or training images alone."""
    source = opened(tmp_path, f"def load(): return {given}")
    splits = source.load()

    assert ((1, 4, 4), 3, expected[2]) == (source.shape, source.classes, source.test_images)
    assert expected == tuple(len(getattr(splits, purpose).labels) for purpose in ("train", "validation", "test"))
    assert (expected[0], 4, 4, 1) == everything(splits.train).shape


def test_torch_datasets(tmp_path: Path) -> None:
    """Datasets of torch are taken as they are, with transforms; named classes can be chosen."""
    body = """
import torch
class Set(torch.utils.data.Dataset):
    classes = ["x", "y", "z"]
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def __getitem__(self, at): return torch.full((3, 4, 4), at / 255), at % 3
def load(): return Set(30), torch.utils.data.Subset(Set(30), range(6))
"""
    source = opened(tmp_path, body)
    few = opened(tmp_path, body, classes=("z", "x"))

    assert (3, 4, 4) == source.shape
    splits = source.load()
    assert (everything(splits.train)[:, 0, 0, 0] % 3).tolist() == splits.train.labels.tolist()
    assert [2, 0] == few.identity["classes"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def load(): return 3", "must give .* not a int"),
        ("def load(): return None", "must give .* not a NoneType"),
        ("def load(): return {'training': 3}", "not a mapping with training"),
        ("def load(): return {'test': (images(3), labels(3))}", "not a mapping with test"),
        ("def load(): return [1, 2, 3, 4]", "not 4 items"),
        ("def load(): return (images(9), labels(8)), None", r"train: labels must be 9 whole numbers"),
        ("def load(): return (images(9), labels(9) / 1), None", r"but are float64 of shape \[9\]"),
        ("def load(): return (images(9), labels(9) - 1), None", "labels must be at least 0 but one is -1"),
        ("def load(): return (images(9) / 1.0, labels(9)), None", "must lie from 0 to 1 but reach from 0 to"),
        ("def load(): return (images(9).astype(int), labels(9)), None", "must be uint8, .*, but are int64"),
        ("def load(): return ([], []), None", "train: images must be there"),
        ("def load(): return (images(0), labels(0)), None", "gives no training images"),
        ("def load(): return (images(9), labels(9)), (images(9)[:, :3], labels(9))",
         r"images of \[4, 4, 1\] for train, of \[3, 4, 1\] for test"),
        ("class A(list): classes = ['a']\ndef load(): return A(zip(images(9), labels(9))), None", "but 1 class"),
        ("def load(): return open('nowhere.npz')", r"own\.py:\d+: calling .* FileNotFoundError"),
        ("def load(): return 1 / 0", r"own\.py:5: calling `own\.py:load` failed: ZeroDivisionError: division by zero"),
        ("def load(): exit(3)", "SystemExit: 3"),
        ("def load(path): pass", r"takes \(path\) but is called as \(\): missing a required argument: 'path'"),
        ("def other(): pass", r"`load` of .*own\.py is not there"),
        ("load = 3", r"`load` of .*own\.py is no function"),
    ],
)  # fmt: skip
def test_what_a_factory_must_not_give(tmp_path: Path, body: str, message: str) -> None:
    """Whatever goes wrong in the user's code is told where it can be mended."""
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, body)


def test_options_are_passed_on(tmp_path: Path) -> None:
    """What autosparse does not know is the factory's; one it does not know either is told."""
    body = "def load(*, count=30, kind='a'): return (images(count), labels(count)), None"
    source = opened(tmp_path, body, count=60, images_per_class=5)

    assert 15 == source.train_images
    assert opened(tmp_path, body, count=60).identity != opened(tmp_path, body, count=61).identity
    with pytest.raises(UsageError, match="unexpected keyword argument 'cuont'") as caught:
        opened(tmp_path, body, cuont=3)
    assert "did you mean `count`?" == caught.value.hint


def test_files_that_options_name_are_part_of_the_identity(tmp_path: Path) -> None:
    """A file or a folder is what it contains, wherever it lies and however deep the option says so."""
    body = "def load(**_): return (images(30), labels(30)), None"
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "a.bin").write_text("one")

    def identities() -> list[Any]:
        paths: list[Any] = [f"{data}", f"{data}/deep/a.bin", [f"{data}/deep/a.bin"], {"x": {"y": f"{data}/"}}]
        return [opened(tmp_path, body, path=path).identity["options"] for path in paths]

    before = identities()
    assert str(tmp_path) not in str(before)
    data.rename(tmp_path / "moved")
    data = tmp_path / "moved"
    assert before == identities()
    (data / "deep" / "a.bin").write_text("two")
    assert all(old != new for old, new in zip(before, identities(), strict=True))


@pytest.mark.parametrize("value", ["/", "a", "a/b", 3, 1.5, True, None])
def test_options_that_name_no_files(tmp_path: Path, value: Any) -> None:
    """Everything else is itself; the whole disk is never read."""
    body = "def load(**_): return (images(30), labels(30)), None"

    assert {"option": value} == opened(tmp_path, body, option=value).identity["options"]


def test_what_was_found_is_remembered(tmp_path: Path) -> None:
    """A set is looked at once: a second plan does not call the factory, a changed one does."""
    body = (
        "def load():\n"
        f"    with open({str(tmp_path / 'calls')!r}, 'a') as file: file.write('x')\n"
        "    return (images(30), labels(30)), None"
    )
    calls = tmp_path / "calls"
    for _ in range(3):
        source = opened(tmp_path, body)
    assert "x" == calls.read_text()

    source.load()
    assert "xx" == calls.read_text()
    opened(tmp_path, body + "\n# changed")
    assert "xxx" == calls.read_text()


def test_what_it_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Own code that prints does not write among results."""
    opened(tmp_path, "print('importing')\ndef load():\n    print('loading')\n    return (images(30), labels(30)), None")

    assert ("", "importing\nloading\n") == capsys.readouterr()


def test_one_class_is_refused(tmp_path: Path) -> None:
    """A set of a single class is refused before anything is trained on it."""
    with pytest.raises(UsageError, match="has one class, '0'"):
        opened(tmp_path, "def load(): return images(30), labels(30) * 0")
