"""Descriptors are checked by digest and by type before anything in them is used: local, shared and foreign ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import DamagedArtifact
from autosparse.store import Remote, Store, open_index
from autosparse.store.descriptor import DESCRIPTOR, EMPTY, read_descriptor
from autosparse.store.files import key_of
from autosparse.store.sealed import seal
from tests.sealing import edit, flips

MADE_FROM: dict[str, Any] = {"version": 1, "options": {"seed": 0}, "inputs": {"init": "a" * 64}}
KEY = key_of("mask", **MADE_FROM)
WHOLE: dict[str, Any] = {
    **MADE_FROM, "step": "mask/snip", "spec": "digits", "consumed": {"init": "b" * 64}, "environment": {"torch": "2"},
    "peak_bytes": 10, "work": {"kind": "c" * 64, "amount": 2.5, "held": "d" * 64}, "seconds": 1.5, "idle_seconds": 1,
    "created": "2026-01-01T00:00:00.000+00:00",
}  # fmt: skip


def deep(levels: int) -> Any:
    """Return nested lists."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "created is a number": lambda about: {**about, "created": 5},
    "created is no time": lambda about: {**about, "created": "yesterday"},
    "work is a list": lambda about: {**about, "work": []},
    "kind is a list": lambda about: {**about, "work": {**about["work"], "kind": []}},
    "amount is a truth": lambda about: {**about, "work": {**about["work"], "amount": True}},
    "amount is negative": lambda about: {**about, "work": {**about["work"], "amount": -1}},
    "no amount": lambda about: {**about, "work": {"kind": "x", "held": "y"}},
    "bytes are huge": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64, "bytes": 10**30}}},
    "bytes are negative": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64, "bytes": -1}}},
    "bytes are a truth": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64, "bytes": True}}},
    "bytes are not whole": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64, "bytes": 1.0}}},
    "no bytes": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64}}},
    "a digest of capitals": lambda about: {**about, "files": {"a.bin": {"sha256": "A" * 64, "bytes": 1}}},
    "a digest and a line end": lambda about: {**about, "files": {"a.bin": {"sha256": "0" * 64 + "\n", "bytes": 1}}},
    "a file above": lambda about: {**about, "files": {"../a.bin": {"sha256": "0" * 64, "bytes": 1}}},
    "itself as a file": lambda about: {**about, "files": {DESCRIPTOR: {"sha256": "0" * 64, "bytes": 1}}},
    "files are a list": lambda about: {**about, "files": []},
    "no files": lambda about: {name: value for name, value in about.items() if name != "files"},
    "no environment": lambda about: {name: value for name, value in about.items() if name != "environment"},
    "options are text": lambda about: {**about, "options": "{}"},
    "inputs are numbers": lambda about: {**about, "inputs": {"init": 3}},
    "version is a text": lambda about: {**about, "version": "1"},
    "seconds are infinite": lambda about: {**about, "seconds": float("inf")},
    "seconds are text": lambda about: {**about, "seconds": "1.5"},
    "step is a number": lambda about: {**about, "step": 3},
    "options are deep": lambda about: {**about, "options": {"seed": deep(400)}},
    "another operation": lambda about: {**about, "operation": "operatiol"},
    "another key": lambda about: {**about, "key": "f" * 64},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one artifact."""
    store = Store(tmp_path / "cache")
    store.publish("mask", KEY, lambda draft: draft.write("a.bin", b"12345"), lambda: WHOLE)
    return store


def descriptor_of(store: Store) -> Path:
    """Return the file of the descriptor."""
    return store.root / "artifacts" / "mask" / KEY / DESCRIPTOR


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_descriptor_of_another_form_is_damage(
    store: Store, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """With a right digest too: here it is neither listed nor indexed, and it is not taken from another machine."""
    remote = Remote(str(tmp_path / "shared"))
    remote.push(store.open("mask", KEY))
    edit(descriptor_of(store), change)
    edit(tmp_path / "shared" / "artifacts" / "mask" / f"{KEY}.json", change)
    other = Store(tmp_path / "other", str(tmp_path / "shared"))

    with pytest.raises(DamagedArtifact):
        store.open("mask", KEY)
    assert ([], []) == ([*store.artifacts()], [*open_index(store)])
    assert [True] == [bool(problem) for _, problem in store.verify()]
    with pytest.raises(DamagedArtifact):
        other.take(remote, "mask", KEY)
    with pytest.raises(DamagedArtifact):
        remote.look("mask", KEY, tmp_path / "looked")
    assert [] == [*remote.artifacts()]
    assert not other.holds("mask", KEY)


def test_every_flipped_bit_of_a_descriptor_is_noticed(store: Store) -> None:
    """In every field: nothing else than spaces between fields may differ."""
    data = descriptor_of(store).read_bytes()
    whole = read_descriptor(data, "mask", KEY)
    noticed = 0
    for flipped in flips(data, 1):
        try:
            assert whole == read_descriptor(flipped, "mask", KEY)
        except DamagedArtifact:
            noticed += 1

    assert noticed > 0.9 * len(data)


def test_provenance_is_empty_unless_given(tmp_path: Path) -> None:
    """An artifact that is published without any has all fields that readers use."""
    store = Store(tmp_path)
    store.publish("mask", KEY, lambda draft: draft.write("a.bin", b""), dict)
    about = store.open("mask", KEY).descriptor

    assert EMPTY.items() <= about.items()
    assert 1 == len(open_index(store))


def test_a_descriptor_without_a_digest_is_damage(store: Store) -> None:
    """As of an earlier version: the artifact is made again."""
    about = store.open("mask", KEY).descriptor
    with pytest.raises(DamagedArtifact, match="content_sha256"):
        read_descriptor(seal(about).replace(b"content_sha256", b"other"), "mask", KEY)
