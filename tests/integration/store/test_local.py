"""Artifacts while another process writes them, or dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.errors import Busy
from autosparse.store import Store
from tests.unit.store.test_local import KEY, publish, visible


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "cache")


DYING = """
import os, pathlib, signal, sys
from autosparse.store import Store

def write(draft):
    draft.write("raw.bin", b"half")
    print("drafting", flush=True)
    if sys.argv[2] == "exit":
        os._exit(9)
    signal.pause()

def describe():
    print("described", flush=True)
    signal.pause()

store = Store(pathlib.Path(sys.argv[1]))
with store.lock("%KEY%"):
    store.publish("mask", "%KEY%", write if sys.argv[2] != "late" else lambda draft: draft.write("a", b"1"), describe)
""".replace("%KEY%", KEY)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def begin(processes: list[subprocess.Popen[str]], store: Store, how: str) -> subprocess.Popen[str]:
    """Start a process that publishes, up to the middle of it."""
    process = subprocess.Popen([sys.executable, "-c", DYING, str(store.root), how], stdout=subprocess.PIPE, text=True)
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline().strip() in ("drafting", "described")
    return process


@pytest.mark.parametrize("how", ["exit", "kill", "late"])
def test_a_killed_writer_leaves_nothing_visible(store: Store, processes: list[subprocess.Popen[str]], how: str) -> None:
    """A process that dies in a draft, by its own hand or by kill -9, leaves no artifact; a rerun publishes it."""
    process = begin(processes, store, how)
    if how != "exit":
        process.send_signal(signal.SIGKILL)
    code = process.wait(timeout=30)

    assert (9 if how == "exit" else -signal.SIGKILL) == code
    assert not store.has("mask", KEY)
    assert [] == visible(store)
    assert [] == list(store.verify())

    with store.lock(KEY, wait=False):
        artifact = publish(store)

    assert bytes(range(256)) == artifact.read("raw.bin")
    assert {"raw.bin", "value.json"} == set(artifact.files)
    assert [] == list((store.root / "drafts").iterdir())


def test_one_process_at_a_time(store: Store, processes: list[subprocess.Popen[str]]) -> None:
    """While another process makes an artifact, not waiting is Busy; other keys are free; its death frees the lock."""
    process = begin(processes, store, "kill")

    with pytest.raises(Busy) as caught, store.lock(KEY, wait=False):
        pass
    with store.lock("f" * 64, wait=False):
        pass

    assert 6 == caught.value.exit_code
    assert f"another process is making artifact {KEY[:12]}" == caught.value.message

    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)

    with store.lock(KEY, wait=False):
        pass


def test_waiting_is_told_and_ends(store: Store, processes: list[subprocess.Popen[str]]) -> None:
    """Who waits says so once, and goes on as soon as the other process is gone."""
    process = begin(processes, store, "kill")
    printed: list[str] = []

    def waiting() -> None:
        printed.append("waiting")
        process.send_signal(signal.SIGKILL)

    with store.lock(KEY, waiting=waiting):
        printed.append("held")

    assert ["waiting", "held"] == printed
