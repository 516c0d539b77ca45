"""Plans and runs name the columns, folders and classes of a set, and the files that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import call
from tests.unit.datasets.conftest import encoded, write_parquet, write_pictures

SPEC = """\
version: 1
model: lenet
dataset: {dataset}
budget: 0.8
method: snip
compare: []
controls: []
training: {{epochs: 1, batch: 16, crop: 0, flip: false, precision: float32}}
target: {{device: cpu, threads: 1}}
"""


def spec(dataset: str) -> str:
    """The name of a spec file in the current directory that names a dataset."""
    Path("spec.yaml").write_text(SPEC.format(dataset=dataset), encoding="utf-8")
    return "spec.yaml"


def folder() -> str:
    """A folder of eight classes, one of them without an image."""
    write_pictures(Path("photos"), dict.fromkeys("abcdefg", 12), size=(12, 12))
    Path("photos/h").mkdir()
    Path("photos/h/1.heic").write_bytes(b"no image")
    return "{name: image_folder, root: photos, size: 12}"


def parquet() -> str:
    """A Parquet file with labels of two columns, of which metadata name one."""
    write_parquet(Path("set/a.parquet"), {"image": encoded(36), "idx": range(36), "breed": [7, 9] * 18}, None)
    return "{name: parquet, path: set, label: breed, size: 12}"


def user_function() -> str:
    """A file with a factory of arrays."""
    Path("mine.py").write_text(
        "import numpy\ndef load():\n    return (numpy.zeros((36, 12, 12, 3), 'uint8'), numpy.arange(36) % 2 + 7), None"
    )
    return '"mine.py:load"'


@pytest.mark.parametrize(
    ("write", "line", "warning"),
    [
        (
            folder,
            "data/image_folder: each folder is a class; 7 classes: a, b, c, d, e, f and 1 more",
            "photos/h is left",
        ),
        (
            parquet,
            "data/parquet: column `image` holds the images, `breed` the labels; 2 classes: 7, 9",
            "become classes",
        ),
        (
            user_function,
            "data/mine.py:load: images first, labels second; 2 classes: 7, 8",
            "7, 8 become classes 0 to 1",
        ),
    ],
)
def test_plans_name_columns_and_classes(
    capsys: pytest.CaptureFixture[str], write: object, line: str, warning: str
) -> None:
    """A plan names the chosen columns and classes, and warns of files and labels that are not used as they are."""
    assert callable(write)
    name = spec(write())
    shown, printed = call(capsys, f"plan {name}"), call(capsys, f"plan {name} --json")
    reading, _, classes = line.partition("; ")

    assert line in " ".join(shown.out.split())
    assert any(text.startswith("warning: ") and warning in text for text in shown.err.splitlines())
    assert any(warning in text for text in printed.json["warnings"])
    assert [reading] == [f"{data['step']}: {data['reading']}" for data in printed.json["datasets"]]
    assert classes.startswith(f"{len(printed.json['datasets'][0]['classes'])} classes: ")


def test_runs_warn_of_files_that_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A run warns of images that are left out before it begins, unless it is quiet."""
    name = spec(folder())

    assert "photos/h is left out: no image among 1 file (`.heic`)" in call(capsys, f"run {name} --only data/*").err
    assert "left out" not in call(capsys, f"run {name} --only data/* --quiet").err


def test_a_scan_lists_every_broken_image(capsys: pytest.CaptureFixture[str]) -> None:
    """Both on the terminal and in JSON, with exit code 5; after the repair the plan exits with 0."""
    name = spec(folder())
    broken = [Path(f"photos/{part}/0003.png") for part in "abc"]
    kept = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(b"no image")
    shown, printed = call(capsys, f"plan {name} --scan"), call(capsys, f"plan {name} --scan --json")
    for path, data in zip(broken, kept, strict=True):
        path.write_bytes(data)
    repaired = call(capsys, f"plan {name} --scan --quiet")

    assert (5, 5, 0) == (shown.code, printed.code, repaired.code)
    assert "error: 3 of 84 images cannot be read" in shown.err
    for path in broken:
        assert f"photos/{path.parent.name}/0003.png: its image format is unknown" in shown.out
    scan = printed.json["datasets"][0]["scan"]
    assert {str(path.resolve()) for path in broken} == {one["name"] for one in scan["broken"]}
    assert 84 == sum(one["images"] for one in scan["splits"])
    assert 2 == call(capsys, f"plan {name} --scan --dot").code


def test_published_sets_are_planned_without_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A published set needs no words: JSON alone names its classes."""
    name = spec("digits")

    assert "classes:" not in call(capsys, f"plan {name}").out
    assert [{"step": "data/digits", "reading": "", "classes": [*"0123456789"], "scan": None}] == json.loads(
        call(capsys, f"plan {name} --json").out
    )["datasets"]
