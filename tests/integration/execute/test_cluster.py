"""The same plan on a cluster of three machines: the same bytes, whatever is lost on the way."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.cluster import SPEC, Machines, published
from tests.conftest import SMALL, Ended, Workspace

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines for steps and one that runs begin on."""
    with Machines(tmp_path_factory.mktemp("machines")) as result:
        yield result


def on(machines: Machines, *arguments: str) -> list[str]:
    """The command that runs a spec on these machines."""
    return ["run", *arguments, "--json", "--set", f"target.backend={machines.backend}"]


def placed(folder: Path, text: str, shared: Path) -> Workspace:
    """A folder with a spec whose artifacts are shared between machines."""
    folder.mkdir()
    (folder / "small.yaml").write_text(f"{text}store: {shared}\n")
    return Workspace(folder)


def test_a_cluster_makes_the_same_bytes(machines: Machines, finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """As on one machine, with the same report; stdout is the result alone, the log says where each step ran."""
    workspace = placed(tmp_path / "run", SMALL, tmp_path / "shared")
    ended = workspace.run(*on(machines, "small.yaml"))
    alone = finished[0].digests(("data", "init", "irp", "label", "scorer", "mask", "train", "emit"))
    assert 0 == ended.code, ended.err
    log = (workspace.folder / ended.json["run"] / "log.txt").read_text()

    assert finished[1].json["results"] == ended.json["results"]
    assert alone.items() <= published(tmp_path / "shared").items()
    assert " starts on " in log
    assert not list(workspace.cache.glob("artifacts/train/*"))  # they were made elsewhere, and nothing asked for them


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of a short comparison on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    workspace = placed(folder / "run", SPEC, folder / "shared")
    ended = workspace.run("run", "small.yaml", "--json", "--quiet")
    assert 0 == ended.code, ended.err
    return published(folder / "shared")


@pytest.mark.parametrize("lost", ["machines", "process"])
def test_what_is_lost_is_made_again(machines: Machines, alone: dict[str, str], tmp_path: Path, lost: str) -> None:
    """At random moments, two machines or a process: the run ends well, with the same bytes."""
    workspace = placed(tmp_path / "run", SPEC, tmp_path / "shared")
    process = workspace.start(*on(machines, "small.yaml"))
    while not list((tmp_path / "shared").glob("artifacts/*/*")) and process.poll() is None:
        time.sleep(0.1)
    if lost == "process":
        while process.poll() is None and "is retried" not in _log(workspace):
            tasks = _tasks_below(machines.process.pid)
            for pid in tasks:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.5 if tasks else 0.02)  # a task may be over in less than a second
    moments, killed = random.Random(lost), 0
    while lost == "machines" and killed < 2 and process.poll() is None:
        time.sleep(moments.uniform(0.0, 4.0))
        machines.kill()
        killed += 1
    out, err = process.communicate(timeout=200)

    assert 0 == process.returncode, err
    assert alone == published(tmp_path / "shared")
    assert out.startswith("{")
    assert killed or "its process was lost" in _log(workspace)


def test_a_run_that_is_killed_goes_on(machines: Machines, alone: dict[str, str], tmp_path: Path) -> None:
    """The artifacts that its tasks published still exist."""
    workspace = placed(tmp_path / "run", SPEC, tmp_path / "shared")
    process = workspace.start(*on(machines, "small.yaml"))
    while len(list((tmp_path / "shared").glob("artifacts/*/*"))) < 5 and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    ended = workspace.run(*on(machines, "small.yaml"))

    assert 0 == ended.code, ended.err
    assert ended.json["steps"]["reuse"] >= 5
    assert alone == published(tmp_path / "shared")


def test_what_no_machine_has_room_for_is_refused(machines: Machines, tmp_path: Path) -> None:
    """At once, with the step and what it lacks."""
    workspace = placed(tmp_path / "run", SPEC, tmp_path / "shared")
    ended = workspace.run(*on(machines, "small.yaml", "--set", "target.threads=64"))

    assert 3 == ended.code
    assert "takes 64 threads, and no machine of the cluster has more than 1" in ended.err


def test_a_signal_leaves_nothing_running(tmp_path: Path) -> None:
    """Of a cluster that the run began: neither tasks nor Ray's own processes."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        shared = tmp_path / f"shared{code}"
        workspace = placed(tmp_path / f"run{code}", SPEC, shared)
        process = workspace.start("run", "small.yaml", "--set", "target.backend={name: ray, address: local}")
        while not list(shared.glob("artifacts/*/*")) and process.poll() is None:
            time.sleep(0.1)
        started = {path for path in map(str, _below(process.pid)) if path in _rays()}
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        end = time.monotonic() + 15
        while _rays() & started and time.monotonic() < end:
            time.sleep(0.2)

        assert (code, "") == (process.returncode, out), err
        assert started
        assert not _rays() & started
        assert "are kept" in err


def _log(workspace: Workspace) -> str:
    return "".join(path.read_text() for path in workspace.folder.glob("runs/*/log.txt"))


def _below(root: int) -> set[int]:
    parents = dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    result = {root}
    while more := {pid for pid, parent in parents.items() if parent in result} - result:
        result |= more
    return result - {root}


def _tasks_below(root: int) -> list[int]:
    """Processes of tasks, not of others' clusters."""
    parents, tasks = dict[int, int](), list[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
            if re.match(rb"ray::(mask|train)/", (path.parent / "cmdline").read_bytes()):
                tasks.append(int(path.parent.name))

    def above(pid: int) -> Iterator[int]:
        while pid := parents.get(pid, 0):
            yield pid

    return [pid for pid in tasks if root in above(pid)]


def _rays() -> set[str]:
    result = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if (
                "ray::" in command
                or "/ray/core/" in command
                or "/ray/_private/" in command
                or "/ray/dashboard/" in command
            ):
                result.add(path.parent.name)
    return result - {str(os.getpid())}
