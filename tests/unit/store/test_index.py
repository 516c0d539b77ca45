"""The index of a store: what it holds, and that it is never more than the folders say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autosparse.store import Store, open_index


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "cache")


def publish(store: Store, key: str, operation: str = "train", **about: Any) -> None:
    """Publish an artifact of five bytes."""
    described: Mapping[str, Any] = {"options": {}, "inputs": {}, "step": f"{operation}/a", "consumed": {}, **about}
    store.publish(operation, key, lambda draft: draft.write("a.bin", b"12345"), lambda: described)


def index_of(store: Store) -> Path:
    """The file of the index."""
    return store.root / "memory" / "index-1.json"


def test_an_empty_store_has_no_index(store: Store) -> None:
    """Nothing is written where nothing is known."""
    assert 0 == len(open_index(store))
    assert not store.root.exists()


def test_a_record_tells_what_its_descriptor_does(store: Store) -> None:
    """Operation, step, bytes, options and inputs; neither files nor consumed digests."""
    publish(store, "k1", options={"lr": 0.1}, inputs={"init": "k0"}, seconds=3.0)
    record = open_index(store).find("k1")

    assert record is not None
    assert ("train", "train/a", 5) == (record.operation, record.step, record.bytes)
    assert {"lr": 0.1} == record.about["options"]
    assert {"init": "k0"} == record.inputs
    assert not {"files", "consumed"} & record.about.keys()


def test_the_latest_comes_first(store: Store) -> None:
    """Records of an operation are ordered by the time they were made."""
    publish(store, "old", created="2026-01-01")
    publish(store, "new", created="2026-03-01")
    publish(store, "mid", created="2026-02-01")

    assert ["new", "mid", "old"] == [record.key for record in open_index(store).operations["train"]]


def test_what_is_added_and_removed_is_seen(store: Store) -> None:
    """The second opening knows added, removed and rebuilt artifacts."""
    publish(store, "a")
    publish(store, "b")
    assert 2 == len(open_index(store))
    store.set_aside("train", "a")
    store.set_aside("train", "b")
    publish(store, "b", step="train/again")
    publish(store, "c", operation="mask")
    index = open_index(store)

    assert {"b", "c"} == {record.key for record in index}
    record = index.find("b")
    assert record is not None
    assert "train/again" == record.step


def test_only_new_descriptors_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexed artifacts are not opened again."""
    publish(store, "a")
    open_index(store)
    publish(store, "b")
    opened = []
    real = store.open

    def spy(operation: str, key: str) -> Any:
        opened.append(key)
        return real(operation, key)

    monkeypatch.setattr(store, "open", spy)
    open_index(store)

    assert ["b"] == opened


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a": 3}', '{"a": [1, 2]}', "\0" * 5000])
def test_a_damaged_index_is_made_again(store: Store, text: str) -> None:
    """The index holds nothing that the folders do not."""
    publish(store, "a")
    open_index(store)
    index_of(store).write_text(text)

    assert ["a"] == [record.key for record in open_index(store)]
    assert ["a"] == [record.key for record in open_index(store)]
    assert {"a"} == set(store.recall("index-1"))


def test_an_index_that_cannot_be_written_is_kept_in_memory(store: Store) -> None:
    """A folder in its place stops nothing."""
    publish(store, "a")
    index_of(store).mkdir(parents=True)

    assert ["a"] == [record.key for record in open_index(store)]


def test_what_an_index_says_that_cannot_be_read_is_of_no_step(store: Store) -> None:
    """One damaged text fails no plan."""
    publish(store, "a")
    open_index(store)
    store.remember("index-1", {"a": [*store.recall("index-1")["a"][:-1], "{"]})
    (record,) = open_index(store)

    assert ({}, {}) == (record.about["options"], record.inputs)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "a"}', json.dumps({"key": "a", "files": {}, "options": 3})])
def test_a_descriptor_that_cannot_be_read_is_left_out(store: Store, text: str) -> None:
    """A run will see that it is damaged; a plan does not fail on it."""
    publish(store, "a")
    publish(store, "b")
    (store.root / "artifacts" / "train" / "a" / "artifact.json").write_text(text, encoding="utf-8")

    assert ["b"] == [record.key for record in open_index(store)]
