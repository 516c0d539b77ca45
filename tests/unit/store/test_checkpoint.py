"""Checkpoints on disk: whole, under the same conditions, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autosparse.store import Store
from autosparse.store.checkpoint import Checkpoint
from autosparse.store.gc import collect

KEY = "a" * 64
TENSORS = {"weights/flat": torch.arange(4.0), "mask/fc": torch.tensor([True, False])}


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """Value and tensors, the last ones saved; after `remove` there is none."""
    store = Store(tmp_path)
    checkpoint = store.checkpoint(KEY, {"threads": 1})
    checkpoint.save({"step": 1}, {})
    checkpoint.save({"step": 2, "losses": [0.1, 0.30000000000000004]}, TENSORS)
    read = store.checkpoint(KEY, {"threads": 1}).load()

    assert read is not None
    assert {"step": 2, "losses": [0.1, 0.30000000000000004]} == read[0]
    assert TENSORS.keys() == read[1].keys()
    assert all(torch.equal(tensor, read[1][name]) for name, tensor in TENSORS.items())
    assert store.has_checkpoint(KEY)
    checkpoint.remove()
    assert checkpoint.load() is None
    assert not store.has_checkpoint(KEY)


def test_other_conditions_start_again(tmp_path: Path) -> None:
    """Another number of threads, release of torch or input gives other bytes."""
    store = Store(tmp_path)
    store.checkpoint(KEY, {"threads": 1}).save({"step": 1}, TENSORS)

    assert store.checkpoint(KEY, {"threads": 2}).load() is None


@pytest.mark.parametrize("content", [b"", b"odd", b"\x08" + 7 * b"\0" + b"{}      "])
def test_a_damaged_checkpoint_is_none(tmp_path: Path, content: bytes) -> None:
    """Cut, foreign or without its value: the training starts again."""
    store = Store(tmp_path)
    checkpoint = store.checkpoint(KEY, {})
    checkpoint.save({"step": 1}, TENSORS)
    (tmp_path / "checkpoints" / f"{KEY}.checkpoint").write_bytes(content)

    assert checkpoint.load() is None


def test_a_cut_checkpoint_is_none(tmp_path: Path) -> None:
    """At every length."""
    store = Store(tmp_path)
    checkpoint = store.checkpoint(KEY, {})
    checkpoint.save({"step": 1}, TENSORS)
    path = tmp_path / "checkpoints" / f"{KEY}.checkpoint"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert checkpoint.load() is None


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    """A flipped bit, of a weight as well, makes the training start again."""
    checkpoint = Store(tmp_path).checkpoint(KEY, {})
    checkpoint.save({"step": 1}, TENSORS)
    path = tmp_path / "checkpoints" / f"{KEY}.checkpoint"
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert checkpoint.load() is None


def test_a_checkpoint_is_due_after_a_minute(tmp_path: Path) -> None:
    """From the beginning, and from the last one on."""
    now = [0.0]
    checkpoint = Checkpoint(tmp_path / "a.safetensors", {}, every=60, clock=lambda: now[0])
    states = []
    for seconds in (0.0, 59.0, 61.0):
        now[0] = seconds
        states.append(checkpoint.is_due)
    checkpoint.save({}, {})

    assert [False, False, True] == states
    assert not checkpoint.is_due


def test_old_checkpoints_are_collected(tmp_path: Path) -> None:
    """`cache gc` deletes those that no run has touched for a day and for the asked time."""
    import os
    import time

    store = Store(tmp_path)
    store.checkpoint(KEY, {}).save({"step": 1}, TENSORS)
    path = tmp_path / "checkpoints" / f"{KEY}.checkpoint"

    assert [] == [*collect(store, 0.0)]
    before = time.time() - 3 * 86400
    os.utime(path, (before, before))
    assert [KEY] == [one.key for one in collect(store, 86400.0)]
    assert not path.exists()
