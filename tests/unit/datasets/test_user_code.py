"""Sets of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.datasets import Source, open_source
from autosparse.errors import OwnCodeError, UsageError
from autosparse.user_code import load_factory
from tests.unit.datasets.conftest import everything

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
    assert expected == tuple(len(splits[purpose].labels) for purpose in ("train", "validation", "test"))
    assert (expected[0], 4, 4, 1) == everything(splits["train"]).shape


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
    assert (everything(splits["train"])[:, 0, 0, 0] % 3).tolist() == splits["train"].labels.tolist()
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
        ("def other(): pass", r"`load` of .*own\.py does not exist"),
        ("load = 3", r"`load` of .*own\.py is no function"),
    ],
)  # fmt: skip
def test_what_a_factory_must_not_give(tmp_path: Path, body: str, message: str) -> None:
    """Every error of user code is reported with its file and line."""
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, body)


ITEMS = """
from PIL import Image
class Items(list): pass
def items(count, image="image", label="label", **more):
    pairs = zip(images(count), labels(count), strict=True)
    return Items([{image: Image.fromarray(one), label: int(number), **more} for one, number in pairs])
"""


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        ("items(30), items(6)", "`image` holds the images, `label` the labels"),
        ("items(30, 'img', 'fine_label', id=3, boxes=[1, 2]), None", "`img` holds the images, `fine_label` the labels"),
        ("items(30, 'pixel_values', 'labels')", "`pixel_values` holds the images, `labels` the labels"),
        ("[*items(30, 'X', 'y')]", "`X` holds the images, `y` the labels"),
        ("{'train': items(30), 'test': items(6)}", "`image` holds the images, `label` the labels"),
        ("{'image': images(30), 'label': labels(30)}", "`image` holds the images, `label` the labels"),
        ("{'images': images(30), 'target': list(labels(30))}, None", "`images` holds the images, `target` the labels"),
        ("{'train': {'x': images(30), 'y': labels(30)[:, None]}}", "`x` holds the images, `y` the labels"),
        ("(images(30), labels(30)), None", "images first, labels second"),
    ],
)
def test_items_and_arrays_with_keys(tmp_path: Path, body: str, reading: str) -> None:
    """Mappings with one key for the image and one for the label are read, and the plan names the keys."""
    source = opened(tmp_path, f"{ITEMS}def load(): return {body}")

    assert (reading, ("0", "1", "2"), ()) == (source.reading, source.class_names, source.warnings)
    assert (4, 4, 1) == everything(source.load()["train"]).shape[1:]


HUGGING_FACE = """
class Image: pass
class ClassLabel: names = ["cat", "cow", "dog"]
class Set:
    features = {"photo": Image(), "label": None, "breed": ClassLabel()}
    shape = (30, 3)
    def __len__(self): return 30
    def __getitem__(self, at): return {"photo": images(30)[at], "label": at, "breed": at % 3}
def load(): return {"train": Set()}
"""


def test_features_of_hugging_face_sets(tmp_path: Path) -> None:
    """Features decide which key holds the images and which the labels, and name the classes."""
    source = opened(tmp_path, HUGGING_FACE)

    assert ("`photo` holds the images, `breed` the labels", ("cat", "cow", "dog")) == (
        source.reading,
        source.class_names,
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("items(9, img=1)", "several keys can be the image: image, img"),
        ("items(9, target=1)", "several keys can be the label: label, target"),
        ("items(9, 'a', 'b'), None", "no key is known as the image; the keys are a, b"),
        ("items(9, 'x', 'b')", "no key is known as the label; the keys are x, b"),
        ("Items([*items(9), {'image': 1}])", "item 0 is a mapping with image, label but item 9 has no `label`"),
        ("Items([*items(9), 3])", "but item 9 is a int"),
        ("Items(zip(images(9), labels(9), labels(9))), None", "item 0 has 3 parts, not an image and a label"),
        ("Items([(images(9)[0],)] * 9), None", "item 0 has 1 parts, not an image and a label"),
        ("Items(images(9)), None", r"items must be \(image, label\) or mappings, not a ndarray"),
        ("Items([{'image': images(4)[..., None], 'label': labels(4)}] * 9)", "item 0 is a batch of 4 images"),
        ("Items([{'image': [one['image'] for one in items(4)], 'label': [0] * 4}] * 9)", "is a batch of 4 images"),
        ("Items([(images(4)[..., None], labels(4))] * 9), None", "item 0 is a batch of 4 images"),
        ("Items([{'image': {'bytes': b'', 'path': ''}, 'label': 1}] * 9)", "but are of type dict"),
        ("Items([{'image': images(1)[0], 'label': [0] * (at + 1)} for at in range(9)])", "must be 9 whole numbers"),
        ("Items([{'image': images(1)[0], 'label': None}] * 9)", "labels must be 9 whole numbers or names"),
        ("type('N', (Items,), {'classes': 3})(zip(images(9), labels(9))), None", "a list of names but is a int"),
        ("type('N', (Items,), {'classes': {'a': 0}})(zip(images(9), labels(9))), None", "but is a mapping with a"),
    ],
)  # fmt: skip
def test_items_that_can_mean_several_things(tmp_path: Path, body: str, message: str) -> None:
    """Items whose image or label is not clear are refused by a sentence that names their keys."""
    with pytest.raises(UsageError, match=message) as caught:
        opened(tmp_path, f"{ITEMS}def load(): return {body}")
    assert not isinstance(caught.value, OwnCodeError)


def test_loaders_are_no_datasets(tmp_path: Path) -> None:
    """A DataLoader is refused, and the hint names its dataset."""
    body = "import torch\ndef load(): return torch.utils.data.DataLoader([*zip(images(9), labels(9))]), None"

    with pytest.raises(UsageError, match="or a torch dataset, not a DataLoader") as caught:
        opened(tmp_path, body)
    assert "give its `dataset`, not a loader of batches" == caught.value.hint


@pytest.mark.parametrize(
    ("labels", "names", "warns"),
    [
        ("labels(30) + 10**12", ("1000000000000", "1000000000001", "1000000000002"), True),
        ("(labels(30) * 5).astype('uint64') + 2**63", (str(2**63), str(2**63 + 5), str(2**63 + 10)), True),
        ("[['b', 'caf\u00e9', 'a'][at % 3] for at in range(30)]", ("a", "b", "caf\u00e9"), False),
        ("labels(30) > 0", ("False", "True"), False),
    ],
    ids=["large", "unsigned", "names", "booleans"],
)
def test_labels_are_numbered_by_their_order(tmp_path: Path, labels: str, names: tuple[str, ...], warns: bool) -> None:
    """Labels of any size and names become classes by their order and keep their names."""
    source = opened(tmp_path, f"def load(): return (images(30), {labels}), None")

    assert names == source.class_names
    assert set(range(len(names))) == {*source.load()["train"].labels.tolist()}
    assert warns == any("become classes 0 to 2, in this order" in warning for warning in source.warnings)
    assert warns == ("labels" in source.identity)


def test_named_classes_keep_their_numbers(tmp_path: Path) -> None:
    """Labels of a set that names its classes are numbers of these names, whichever of them occur."""
    body = (
        "class Set(list): classes = ['x', 'y', 'z']\ndef load(): return Set(zip(images(30), labels(30) // 2 * 2)), None"
    )
    source = opened(tmp_path, body)

    assert (("x", "y", "z"), ()) == (source.class_names, source.warnings)
    assert {0, 2} == {*source.load()["train"].labels.tolist()}


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("(images(30), range(30)), None", "30 classes in 30 training images; labels may be identifiers"),
        ("(images(30), labels(30)), (images(4), [3, 0, 4, 1])", "no training images of classes 3, 4"),
    ],
)
def test_labels_that_surprise_are_named(tmp_path: Path, body: str, warning: str) -> None:
    """A class for every image and classes without training images draw a warning, also from memory."""
    for _ in range(2):
        source = opened(tmp_path, f"def load(): return {body}")
        assert (f"dataset `own.py:load`: {warning}",) == source.warnings


def test_options_are_passed_on(tmp_path: Path) -> None:
    """Options that autosparse does not know go to the factory; one that it does not know either is an error."""
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
    opened(tmp_path, body + "\nchanged = True")
    assert "xxx" == calls.read_text()


def test_what_it_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Own code that prints does not write among results."""
    opened(tmp_path, "print('importing')\ndef load():\n    print('loading')\n    return (images(30), labels(30)), None")

    assert ("", "importing\nloading\n") == capsys.readouterr()


def test_one_class_is_refused(tmp_path: Path) -> None:
    """A set of a single class is refused before anything is trained on it."""
    with pytest.raises(UsageError, match="has one class, '0'"):
        opened(tmp_path, "def load(): return images(30), labels(30) * 0")


def test_one_huge_label_is_a_class_as_any(tmp_path: Path) -> None:
    """Classes are the distinct labels; the number of a label has no cost."""
    body = "def load():\n there = labels(30) * 10**9\n return images(30), there"
    source = opened(tmp_path, body)

    assert ("0", "1000000000", "2000000000") == source.class_names
    assert {0, 1, 2} == {*everything_of(source)}


def everything_of(source: Source) -> list[int]:
    """The labels of all splits."""
    return [label for split in source.load().values() for label in split.labels.tolist()]


def test_a_list_of_a_billion_class_names_is_refused(tmp_path: Path) -> None:
    """Its length is compared before any name is read."""
    body = (
        "class Set:\n classes = range(10**9)\n def __len__(self): return 30\n"
        " def __getitem__(self, at): return images(30)[at], at % 3\ndef load(): return Set()"
    )

    with pytest.raises(UsageError, match="1,000,000,000 names, above 1,048,576"):
        opened(tmp_path, body)


@pytest.mark.parametrize("name", ["os:system", "shutil:rmtree", "sys:exit", "builtins:eval", "subprocess:Popen"])
def test_functions_of_python_are_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sources are not read, and nothing is called."""
    monkeypatch.setattr("autosparse.user_code.sources", lambda name: pytest.fail("nothing may be read"))
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("nothing may be called"))

    with pytest.raises(UsageError, match="a module of Python"):
        load_factory(name)


@pytest.mark.parametrize(
    ("imported", "name"),
    [
        ("from os import system", "system"),
        ("from shutil import rmtree", "rmtree"),
        ("from subprocess import Popen", "Popen"),
        ("from torch import zeros", "zeros"),
    ],
)
def test_functions_of_python_are_refused_behind_an_import(tmp_path: Path, imported: str, name: str) -> None:
    """A factory is a function or a class of the user's."""
    (tmp_path / "own.py").write_text(imported)

    with pytest.raises(UsageError, match="not a factory"):
        load_factory(f"{tmp_path / 'own.py'}:{name}")


@pytest.mark.parametrize(
    "body",
    [
        "class load:\n def __new__(cls): return images(30), labels(30)",
        "import functools\n@functools.lru_cache\ndef load(): return images(30), labels(30)",
        "import functools\nload = functools.partial(lambda part: (part(30), labels(30)), images)",
    ],
)
def test_factories_of_every_kind_are_taken(tmp_path: Path, body: str) -> None:
    """Classes, wrapped functions and partial ones."""
    assert 3 == opened(tmp_path, body).classes
