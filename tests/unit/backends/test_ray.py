"""Backends that run steps elsewhere, without a cluster: refusals, submissions, retries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autosparse.backends import (
    Distributed,
    Event,
    Finished,
    Limit,
    Limits,
    Note,
    Placement,
    Raised,
    Started,
    backends,
    ray,
)
from autosparse.errors import FitError, MissingRequirement, StepError, UsageError

GIB = 2**30


class LostError(Exception):
    """As those of Ray."""


class BrokenError(LostError):
    """As Ray's of a task that raised something."""

    cause = ModuleNotFoundError("No module named 'autosparse'")


class Library:
    """The part of Ray that a crew needs; tasks end on request."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.machines = nodes
        self.submitted: list[tuple[str, dict[str, Any]]] = []
        self.ends: dict[int, Any] = {}
        self.cancelled: list[int] = []
        self.board: list[Event] = []
        self.exceptions = SimpleNamespace(RayError=LostError, RayTaskError=BrokenError, RuntimeEnvSetupError=KeyError)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node, "NodeManagerAddress": "here"} for node in self.machines]

    def wait(self, tasks: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        return [task for task in tasks if task in self.ends], [task for task in tasks if task not in self.ends]

    def get(self, what: Any) -> Any:
        if what == "board":
            events, self.board = self.board, []
            return events
        if isinstance(self.ends[what], Exception):
            raise self.ends[what]
        return self.ends[what]

    def options(self, **options: Any) -> Any:
        def remote(work: Any, name: str, board: Any) -> int:
            self.submitted.append((name, options))
            return len(self.submitted) - 1

        return SimpleNamespace(remote=remote)

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A crew on a made-up cluster."""

    def of(library: Library, *, scales: bool = False, device: str = "cpu") -> Any:
        monkeypatch.setattr(ray, "_library", lambda: library)
        memory = {"train/a": 4 * GIB}
        backend: Any = ray.ray(Placement(device, 2), address="local", scales=scales)
        made = backend.pool(print, memory, same_machine=True)
        made._board = SimpleNamespace(drain=SimpleNamespace(remote=lambda: "board"))
        made._task = library
        return made

    return of


def test_backends_know_where_steps_run() -> None:
    """A distributed backend makes a crew."""
    assert isinstance(backends["ray"].function(Placement("cpu", 1)), Distributed)
    assert not isinstance(backends["local"].function(Placement("cpu", 1)), Distributed)


@pytest.mark.parametrize(
    ("node", "device", "printed"),
    [
        ({"CPU": 1, "memory": 64 * GIB}, "cpu", "2 threads, and no machine of the cluster has more than 1"),
        ({"CPU": 8, "memory": 2 * GIB}, "cpu", "4,294,967,296 bytes of memory"),
        ({"CPU": 8, "memory": 64 * GIB}, "cuda", "1 GPUs, and no machine of the cluster has more than 0"),
        ({}, "cpu", "2 threads"),
    ],
)
def test_what_no_machine_has_room_for_is_refused(
    crew: Callable[..., Any], node: dict[str, float], device: str, printed: str
) -> None:
    """Ray would wait for a machine that never comes; where machines come when asked for, it is right to."""
    with pytest.raises(FitError, match="step `train/a`") as error:
        crew(Library(node, {"CPU": 1}), device=device).check("train/a")
    assert printed in error.value.message
    crew(Library(node), scales=True, device=device).check("train/a")


def test_what_one_machine_has_room_for_is_taken(crew: Callable[..., Any]) -> None:
    """All that it needs must be on the same one."""
    crew(Library({"CPU": 1, "memory": 64 * GIB}, {"CPU": 2, "memory": 4 * GIB})).check("train/a")
    with pytest.raises(FitError, match="4,294,967,296 bytes of memory, and no machine of the cluster has all of that"):
        crew(Library({"CPU": 1, "memory": 64 * GIB}, {"CPU": 2, "memory": 1 * GIB})).check("train/a")


def test_steps_ask_for_what_they_take(crew: Callable[..., Any]) -> None:
    """Threads, a GPU and memory; a few more are submitted than there is room for."""
    library = Library({"CPU": 5, "GPU": 2}, {"CPU": 2, "GPU": 0})
    made = crew(library, device="cuda")
    for number, worker in enumerate(made.idle):
        made.start(worker, "train/a" if number == 0 else f"train/{number}")

    assert {"num_cpus": 2, "num_gpus": 1, "name": "train/a", "memory": 4 * GIB} == library.submitted[0][1]
    assert "memory" not in library.submitted[1][1]
    assert 2 + 2 == len(library.submitted)


def test_what_tasks_tell_is_heard(crew: Callable[..., Any]) -> None:
    """In order: what happened meanwhile, then how those ended that did."""
    library = Library({"CPU": 4})
    made = crew(library)
    made.start(None, "train/a")
    made.start(None, "train/b")
    library.board = [Started("train/a", "node7")]
    library.ends[0] = [Finished("train/a", "run", 1.0, {})]

    assert [Started("train/a", "node7"), Finished("train/a", "run", 1.0, {})] == [*made.receive()]
    assert made.busy
    library.ends[1] = [Raised(StepError("no"))]
    assert [Raised] == [type(event) for event in made.receive()]
    assert not made.busy


def test_a_lost_process_is_begun_again_but_not_for_ever(crew: Callable[..., Any]) -> None:
    """Ten times; then the step has failed, with the reason."""
    library = Library({"CPU": 4})
    made = crew(library)
    made.start(None, "train/a")
    events = []
    for number in range(11):
        library.ends[number] = LostError("out of memory\nmore")
        events += [*made.receive()]

    assert [Note] * 10 + [Raised] == [type(event) for event in events]
    assert "is retried" in events[0].text
    assert "lost 11 times (LostError: out of memory)" in events[-1].error.message
    assert not made.busy


def test_a_task_that_raises_has_failed(crew: Callable[..., Any]) -> None:
    """No machine was lost, and a retry would fail again: the error has the reason. Waiting steps are cancelled."""
    library = Library({"CPU": 4})
    made = crew(library)
    for name in ("train/a", "train/b", "train/c"):
        made.start(None, name)
    library.board = [Started("train/a", "node7"), Started("train/b", "node7")]
    library.ends[0] = BrokenError()
    *_, raised = made.receive()

    assert isinstance(raised, Raised)
    assert "step `train/a` failed: ModuleNotFoundError: No module named 'autosparse'" == raised.error.message
    assert [2] == library.cancelled
    assert made.busy
    library.ends[1] = [Finished("train/b", "run", 1.0, {})]
    assert [Finished] == [type(event) for event in made.receive()]
    assert not made.busy


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), 3), (ImportError("failed to map segment"), 5)])
def test_a_lack_of_memory_in_a_task_does_not_fit(error: Exception, code: int) -> None:
    """As in the command's process."""

    def fails(name: str, emit: Any) -> None:
        raise error

    (raised,) = ray.act(fails, "train/a", SimpleNamespace())

    assert isinstance(raised, Raised)
    assert (code, "train/a") == (raised.error.exit_code, raised.error.step)


def test_what_a_step_raises_is_its_failure() -> None:
    """Whatever it is, where it runs."""

    def fails(name: str, emit: Any) -> None:
        raise OSError("disk full")

    (raised,) = ray.act(fails, "train/a", SimpleNamespace())

    assert isinstance(raised, Raised)
    assert "step `train/a` failed: OSError: disk full" == raised.error.message


def test_a_step_waits_for_a_machine_that_is_gone_but_not_for_ever(
    crew: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so; one that comes is taken."""
    monkeypatch.setattr(ray, "_LOOKS", 0.0)
    library = Library({"CPU": 4, "memory": 8 * GIB})
    made = crew(library)
    made.start(None, "train/a")
    before, machines = [*made.receive()], library.machines
    library.machines = ({"CPU": 1},)
    events = [*made.receive(), *made.receive()]
    library.machines = machines
    back = [*made.receive()]
    library.machines = ({"CPU": 1},)
    again = [*made.receive()]
    monkeypatch.setattr(ray, "_GONE", 0.0)
    (failed,) = made.receive()

    assert [] == before == back
    assert [Note] == [type(event) for event in events] == [type(event) for event in again]
    assert "no machine of the cluster has more than 1: it waits for one" in events[0].text
    assert isinstance(failed, Raised)
    assert not made.busy


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "head.example:6379", "[fe80::1]:6379"])
def test_a_cluster_without_a_token_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a network, unless it is trusted, or asks for one."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="asks for no token"):
        ray._known(address, trusted=False)
    assert address == ray._known(address, trusted=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert address == ray._known(address, trusted=False)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379"])
def test_this_machine_is_trusted(address: str) -> None:
    """Nobody else reaches it."""
    assert address == ray._known(address, trusted=False)


def test_auto_is_the_cluster_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of `RAY_ADDRESS`, else the one that was begun here, else none."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "_CURRENT", str(tmp_path / "current"))
    with pytest.raises(MissingRequirement, match="there is no Ray cluster on this machine"):
        ray._known("auto", trusted=False)
    (tmp_path / "current").write_text("127.0.0.1:1\n")
    assert "127.0.0.1:1" == ray._known("auto", trusted=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    assert "127.0.0.1:2" == ray._known("auto", trusted=False)
    with pytest.raises(UsageError, match="through a proxy"):
        ray._known("ray://head:10001", trusted=True)


def test_a_cluster_for_one_run_has_the_limits_of_the_process() -> None:
    """Ray would see the machine's cores and memory in a group below the outermost."""
    cores, machine = Limit(3, "cgroup v2 cpu.max of /a"), Limit(2**33, "the machine")

    assert {"num_cpus": 3} == ray._within(Limits(cores, cores, machine, None))
    limited = ray._within(Limits(cores, cores, Limit(2**30, "cgroup v2 memory.max of /a"), None))
    assert 2**30 == limited["_memory"] + limited["object_store_memory"]
