"""Deletions when a cache is cleaned: nothing that a finished or active run uses."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import MissingRequirement
from autosparse.store import Draft, Remote, Store, collect, collect_remote, gc, in_use, local
from autosparse.store.files import key_of
from autosparse.store.sealed import seal

DAY = 86400.0
_OPTIONS: list[dict[str, Any]] = [{"version": 1, "options": {"seed": seed}, "inputs": {}} for seed in range(6)]
MADE_FROM = {key_of("mask", *about.values()): about for about in _OPTIONS}
KEYS = sorted(MADE_FROM)


def days_ago(number: float) -> str:
    """Return a time as descriptors write it."""
    return (datetime.now(UTC) - timedelta(days=number)).isoformat()


def publish(store: Store, key: str, age: float | None, text: str = "") -> None:
    """Publish an artifact that is a given number of days old."""

    def write(draft: Draft) -> None:
        draft.write_json("value", text or key)

    created = {} if age is None else {"created": days_ago(age)}
    store.publish("mask", key, write, lambda: MADE_FROM[key] | created)


def aged(folder: Path) -> Store:
    """A cache with artifacts of ages of 1, 20, 40 and 60 days, and of no age."""
    store = Store(folder / "cache")
    for key, age in zip(KEYS, (1, 20, 40, 60, None), strict=False):
        publish(store, key, age)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A cache with artifacts of several ages."""
    return aged(tmp_path)


def gone(store: Store, *, dry: bool = False) -> list[str]:
    """The keys that go when 30 days are too long."""
    return sorted(one.key for one in collect(store, 30 * DAY, dry=dry))


def left(store: Store) -> Sequence[str]:
    """Return the remaining keys."""
    return [artifact.key for artifact in store.artifacts()]


def test_what_nobody_used_for_long_goes(store: Store) -> None:
    """An artifact without a time stays; `dry` deletes nothing."""
    candidates, before = gone(store, dry=True), left(store)

    assert KEYS[2:4] == candidates == gone(store)
    assert KEYS[:5] == before
    assert [*KEYS[:2], KEYS[4]] == left(store)
    assert [] == gone(store)


def test_what_a_run_noted_stays(store: Store) -> None:
    """As long as it is not long ago itself."""
    store.note("used-one", {"time": days_ago(5), "keys": [KEYS[2]]})
    store.note("used-two", {"time": days_ago(50), "keys": [KEYS[3]]})

    assert [KEYS[3]] == gone(store)


@pytest.mark.parametrize("text", ['{"time"', "[]", '{"time": "2026-01-01", "keys": []}'])
def test_damaged_notes_of_runs_stop_it(store: Store, text: str) -> None:
    """Nothing goes: their runs may use all. One message names them; those of long ago go with the others."""
    names = [f"used-{name}" for name in ("one", "two", "sound")]
    for name in names:
        store.note(name, {"time": days_ago(5), "keys": [KEYS[2]] if name == "used-sound" else 1})
    one, two = (store.root / "memory" / f"{name}.json" for name in names[:2])
    one.write_text(text)
    with pytest.raises(
        MissingRequirement, match=r"used-one\.json is damaged: .*used-two\.json is damaged: it is not"
    ) as caught:
        gone(store)
    kept = left(store)
    for path in (one, two):
        os.utime(path, (time.time() - 40 * DAY,) * 2)

    assert "delete these files" in str(caught.value.hint)
    assert KEYS[:5] == kept
    assert sorted([KEYS[3], "used-one"]) == gone(store)
    assert (False, False) == (one.exists(), two.exists())


def test_a_damaged_note_of_an_active_run_stops_it(store: Store) -> None:
    """However old the file is."""
    path = store.root / "memory" / "used-live.json"
    with in_use(store, "live", []):
        path.write_text("[]")
        os.utime(path, (time.time() - 40 * DAY,) * 2)
        with pytest.raises(MissingRequirement, match=r"used-live\.json is damaged: "):
            gone(store)


def test_artifacts_without_a_descriptor_go(store: Store) -> None:
    """The write time of their folder is theirs; those in use and those that another process makes stay."""
    folders = [store.root / "artifacts" / "mask" / key for key in KEYS[:5]]
    for number, folder in enumerate(folders):
        descriptor = folder / "artifact.json"
        descriptor.unlink() if number % 2 else descriptor.write_text("{")
        os.utime(folder, (time.time() - (10 if number == 4 else 40) * DAY,) * 2)
    store.note("used-one", {"time": days_ago(5), "keys": [KEYS[0]]})
    with store.lock(KEYS[1]):
        listed, went = gone(store, dry=True), gone(store)

    assert KEYS[1:4] == listed
    assert KEYS[2:4] == went
    assert [True, True, False, False, True] == [folder.exists() for folder in folders]


def test_damaged_memory_goes(store: Store) -> None:
    """Sound values stay."""
    store.note("network-one", 1)
    store.note("network-two", 2)
    path = store.root / "memory" / "network-two.json"
    path.write_bytes(path.read_bytes()[:-5])

    assert "network-two" in gone(store, dry=True)
    assert "network-two" in gone(store)
    assert (1, False) == (store.recall("network-one"), path.exists())


def test_what_was_left_behind_goes(store: Store) -> None:
    """Drafts of a killed writer, damaged artifacts, fetched files: a day old, or much older."""
    for name in ("drafts", "damaged", "fetched"):
        for age in (0, 2, 40):
            folder = store.root / name / f"{name}{age}"
            folder.mkdir(parents=True)
            (folder / "x").write_text("x")
            os.utime(folder, (time.time() - age * DAY,) * 2)
    gone(store)

    assert {"drafts0", "damaged0", "fetched0", "fetched2"} == {
        path.parent.name for name in ("drafts", "damaged", "fetched") for path in (store.root / name).glob("*/x")
    }


@pytest.fixture(params=["memory", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Remote:
    """A shared store with the artifacts of the cache; two of them share a file."""
    result = Remote(str(tmp_path / "shared") if request.param == "file" else f"memory://{uuid.uuid4().hex}")
    publish(store, KEYS[5], 60, text=KEYS[0])
    for artifact in store.artifacts():
        result.push(artifact)
    return result


def test_a_shared_store_keeps_what_runs_of_any_machine_use(remote: Remote, store: Store, tmp_path: Path) -> None:
    """And files that another artifact names; files go only when they were written a day ago."""
    other = Store(tmp_path / "other", remote.url)
    with in_use(other, "run", [KEYS[2]]):
        pass
    candidates = sorted(one.key for one in collect_remote(remote, 30 * DAY, dry=True))
    done = sorted(one.key for one in collect_remote(remote, 30 * DAY))
    young = len(remote._files.find(f"{remote._root}/files"))
    remote.sweep({"nothing"}, time.time() - 1000)
    kept = {file["sha256"] for _, about in remote.artifacts() for file in about["files"].values()}
    remote.sweep(kept, time.time() + 1000)

    assert [KEYS[3], KEYS[5]] == candidates == done
    assert sorted([*KEYS[:3], KEYS[4]]) == sorted(key for (_, key), _ in remote.artifacts())
    assert 5 == young
    assert 4 == len(remote._files.find(f"{remote._root}/files"))
    for key in (*KEYS[:3], KEYS[4]):
        assert key == Store(tmp_path / "reader", remote.url).bring("mask", key).json("value")


@pytest.mark.parametrize("note", [b'{"time"', b"[]", seal({"time": "now", "keys": []})])
def test_notes_that_cannot_be_read_stop_it(remote: Remote, note: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes: they may be of runs that use all. Those written long ago count as old."""
    for name in ("run1", "run2"):
        remote.claim(name, {"time": days_ago(0), "keys": KEYS})
        remote._files.pipe_file(f"{remote._root}/uses/{name}.json", note)
    with pytest.raises(MissingRequirement, match=r"run1\.json is damaged: .*run2\.json is damaged: "):
        list(collect_remote(remote, 30 * DAY))
    kept = len(list(remote.artifacts()))
    written = Remote._written
    monkeypatch.setattr(Remote, "_written", lambda self, path: written(self, path) - 40 * DAY)

    assert 6 == kept
    assert [*KEYS[2:4], KEYS[5]] == sorted(one.key for one in collect_remote(remote, 30 * DAY))


def test_damaged_descriptors_of_a_shared_store_go(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their write time counts."""
    for key in KEYS[:2]:
        remote._files.pipe_file(remote._descriptor("mask", key), b"{")
    young = {one.key for one in collect_remote(remote, 30 * DAY, dry=True)}
    monkeypatch.setattr(Remote, "_written", lambda self, path: time.time() - 40 * DAY)
    list(collect_remote(remote, 30 * DAY))

    assert {KEYS[2], KEYS[3], KEYS[5]} == young
    assert [f"{KEYS[4]}.json"] == [
        path.rpartition("/")[2] for path in remote._files.find(f"{remote._root}/artifacts") if "/." not in path
    ]


def test_a_run_that_goes_on_says_so(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a step takes; what could not be said at first is said as soon as it can."""
    monkeypatch.setattr(gc, "_REFRESH", 0.05)
    monkeypatch.setattr(gc, "_AGAIN", 0.05)
    monkeypatch.setattr(local, "_AGAIN", 0.0)
    attempts: list[bool] = []
    claim = Remote.claim

    def fails_once(self: Remote, name: str, note: dict[str, Any]) -> bool:
        attempts.append(True)
        if len(attempts) == 1:
            raise MissingRequirement("not reached")
        return claim(self, name, note)

    monkeypatch.setattr(Remote, "claim", fails_once)
    with in_use(Store(tmp_path / "other", remote.url), "run", KEYS):
        end = time.monotonic() + 20
        while len(attempts) < 4 and time.monotonic() < end:
            time.sleep(0.01)
    noted = [read()["keys"] for _, _, read in remote.claims()]
    made = len(attempts)
    time.sleep(0.2)

    assert [sorted(KEYS)] == noted
    assert made in (len(attempts), len(attempts) - 1)


def test_records_of_runs_that_ended_long_ago_go(store: Store) -> None:
    """So do the locks and the drafts of killed processes; a run that goes on keeps its record."""
    memory, locks = store.root / "memory", store.root / "locks"
    with in_use(store, "live", []):
        for name in ("live", "old", "new"):
            store.note(f"used-{name}", {"time": days_ago(0), "keys": []})
        (locks / "use-dead-1.lock").touch()
        (memory / ".used-old.json.0123456789ab.draft").touch()
        for path in (*memory.iterdir(), *locks.glob("use-*")):
            if "new" not in path.name:
                os.utime(path, (time.time() - 40 * DAY,) * 2)
        gone(store, dry=True)
        assert (memory / "used-old.json").exists()
        gone(store)

        assert ["used-live.json", "used-new.json"] == sorted(path.name for path in memory.glob("*used-*"))
        assert [f"use-live-{os.getpid()}.lock"] == [path.name for path in locks.glob("use-*")]


def test_a_shared_store_forgets_runs_and_drafts(tmp_path: Path, store: Store) -> None:
    """Records of runs that ended long ago, and drafts a day old; those of today stay."""
    remote = Remote(str(tmp_path / "shared"))
    remote.push(store.open("mask", KEYS[0]))
    for age in (0, 2, 40):
        remote.claim(f"run{age}", {"time": days_ago(age), "keys": []})
        drafts = [
            tmp_path / "shared" / name / f".{age}.0123456789ab" for name in ("uses", "artifacts/mask", "files/ab")
        ]
        for path in drafts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for path in (*drafts, tmp_path / "shared" / "uses" / f"run{age}.json"):
            os.utime(path, (time.time() - age * DAY - 60,) * 2)
    before = {path.name for path in (tmp_path / "shared").rglob("*") if path.is_file()}
    gone = list(collect_remote(remote, 30 * DAY))
    after = {path.name for path in (tmp_path / "shared").rglob("*") if path.is_file()}

    assert [] == gone
    assert {"run40.json", ".2.0123456789ab", ".40.0123456789ab"} == before - after
    assert KEYS[0] == Store(tmp_path / "reader", remote.url).bring("mask", KEYS[0]).json("value")
