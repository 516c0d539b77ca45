"""Masks that take training: from the spec's recipe, and the same whenever they are made."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from autosparse.core.images import epoch
from autosparse.core.training.recipe import Recipe
from autosparse.steps.context import generator, training_stream
from autosparse.store import load_tensors
from tests.conftest import Workspace, call
from tests.unit.core.conftest import images_of

SPEC = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: 0.9
target: {device: cpu, threads: 1}
method: {name: found, criterion: magnitude, allocation: erk, schedule: {name: search, steps: 12}}
controls: []
training: {epochs: 1, batch: 128, lr: 0.05, crop: 1, flip: false, precision: bfloat16}
compare: [{name: brief, criterion: snip, schedule: {name: linear, rounds: 2, steps: 3}}]
emit: []
"""


def test_learned_masks_are_the_same_again(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A step that learns its mask leaves the same bytes when it is made again, and exactly its share of weights."""
    (here.folder / "search.yaml").write_text(SPEC)
    first = call(capsys, "run search.yaml --json")
    again = call(capsys, "run search.yaml --force mask/found/0.9/seed0 --force mask/brief/0.9/seed0")

    assert 0 == first.code == again.code, first.err + again.err
    assert 2 == again.err.count("is rebuilt with identical bytes")
    for result in first.json["results"]:
        assert round(0.1 * result["total"]) == result["kept"]


def test_training_batches_are_the_recipes() -> None:
    """Epoch after epoch in the recipe's batches, with its crop and flip; a second stream is identical."""
    images, recipe = images_of(10), Recipe(batch=4, crop=2, flip=True)
    random = generator("stream", 7)
    expected = [batch for _ in range(2) for batch in epoch(images, batch=4, crop=2, flip=True, generator=random)]

    assert [4, 4, 2] * 2 == [len(labels) for _, labels in expected]
    for _ in range(2):
        batches = [*islice(training_stream(images, recipe, 7), 6)]
        assert all(
            torch.equal(a, b)
            for one, other in zip(expected, batches, strict=True)
            for a, b in zip(one, other, strict=True)
        )


PATTERN = """\
version: 1
model: {name: mlp, widths: [16]}
dataset: digits
budget: 0.5
target: {device: cpu, threads: 1}
method: {preset: snip, schedule: {name: linear, rounds: 2}, unit: 2:4}
controls: [shuffle, layer_mean]
sanity: {methods: [snip+linear.rounds-2+2of4], checks: [invert]}
training: {epochs: 1, batch: 128, precision: float32}
compare: [{criterion: magnitude, schedule: {name: search, steps: 3}, unit: 2:4}]
emit: []
"""


def test_every_mask_of_a_run_keeps_the_pattern(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Masks of rounds and of a search keep 2 of 4, and so does the control that permutes finished masks in blocks."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "masks"))
    (here.folder / "pattern.yaml").write_text(PATTERN)
    ended = call(capsys, "run pattern.yaml --json")
    masks = [load_tensors(file.read_bytes()) for file in tmp_path.rglob("masks.safetensors")]
    first, *others = (torch.cat([mask.reshape(-1, 4) for mask in one.values()]) for one in masks)

    assert 0 == ended.code, ended.err
    assert 2 == len(others)
    for blocks in (first, *others):
        assert {2} == set(blocks.sum(dim=1).tolist())
    assert not any(torch.equal(first, other) for other in others)
    assert any("unit 2:4 makes no exported model faster here" in warning for warning in ended.json["warnings"])
