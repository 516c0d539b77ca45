"""A dataset becomes an artifact; what does not fit into memory stays on disk and gives the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from autosparse.backends import Placement
from autosparse.core.images import Images, epoch
from autosparse.datasets import open_source
from autosparse.errors import DamagedArtifact, StepError
from autosparse.steps import Context, operations
from autosparse.steps.context import load_images
from autosparse.store import Artifact, Store
from tests.unit.core.conftest import seeded

DIGITS: dict[str, Any] = {"dataset": {"name": "digits", "options": {"validation": 300, "test": 300}}}
CPU = torch.device("cpu")
SPLITS = ("train", "validation", "test")


def made(folder: Path, **changed: object) -> Artifact:
    """The artifact of the digits."""
    store = Store(folder)
    identity = {**open_source("digits", DIGITS["dataset"]["options"]).identity, **changed}

    def write(draft: object) -> None:
        context = Context({}, draft, Placement("cpu", 1), DIGITS)  # type: ignore[arg-type]
        operations["data"].function(context, identity=identity)

    return store.publish("data", "key", write, lambda: {})


def all_batches(images: Images) -> list[torch.Tensor]:
    """Return the images of training and evaluation."""
    batches = [*epoch(images, batch=100, crop=1, flip=True, generator=seeded()), *images.in_order(128)]
    return [tensor for batch in batches for tensor in batch]


@pytest.mark.parametrize("free", [2**40, 0])
def test_a_set_in_many_files_gives_the_same_batches(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 10,000 bytes, read into memory or left on disk, change nothing but how much memory is used."""
    whole = made(tmp_path / "whole")
    monkeypatch.setattr("autosparse.steps.data.SHARD", 10_000)
    monkeypatch.setattr("autosparse.steps.context.free_memory", lambda device: free)
    parts = made(tmp_path / "parts")

    assert {f"{name}.safetensors" for name in ("statistics", *SPLITS)} == set(whole.files)
    assert 8 == sum(name.startswith("train-") for name in parts.files)
    assert whole.read("statistics.safetensors") == parts.read("statistics.safetensors")
    for split in SPLITS:
        expected, actual = load_images(whole, split, CPU), load_images(parts, split, CPU)
        assert (free > 0) == isinstance(actual.pixels, torch.Tensor)
        assert all(map(torch.equal, all_batches(expected), all_batches(actual)))


def test_a_damaged_file_on_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data read row by row are checked as a whole before."""
    monkeypatch.setattr("autosparse.steps.data.SHARD", 10_000)
    monkeypatch.setattr("autosparse.steps.context.free_memory", lambda device: 0)
    parts = made(tmp_path)
    path = parts.folder / "train-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(DamagedArtifact, match=r"train-00003.safetensors differs from the published file"):
        load_images(parts, "train", CPU)


def test_a_set_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    """Loaded data must have the identity of the key."""
    with pytest.raises(StepError, match="dataset `digits` has changed since it was planned"):
        made(tmp_path, sha256="another")


def test_images_of_another_size_in_a_later_file_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files hold images of one size, all of them that of the first."""
    for name, sides in {"a": (8, 8, 8), "b": (8, 8, 9)}.items():
        for number, side in enumerate(sides * 20):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side)).save(tmp_path / "set" / name / f"{number}.png")
    monkeypatch.setattr("autosparse.steps.data.SHARD", 8 * 8 * 3)
    options = {"root": str(tmp_path / "set"), "channels": 3}
    source = open_source("image_folder", options)

    def write(draft: object) -> None:
        context = Context({}, draft, Placement("cpu", 1), {"dataset": {"name": "image_folder", "options": options}})  # type: ignore[arg-type]
        operations["data"].function(context, identity=dict(source.identity))

    with pytest.raises(StepError, match=r"images for \w+ are 9 x 9, the first for training is 8 x 8"):
        Store(tmp_path / "store").publish("data", "key", write, lambda: {})
