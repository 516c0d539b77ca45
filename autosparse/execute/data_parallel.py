"""Several processes that do one step together: data-parallel training.

Every member does the whole step, with the same inputs, options and random numbers, and meets the others wherever the
training takes a mean. What the first one writes is the step's output; what the others write is thrown away.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from autosparse.backends import Place, local
from autosparse.core.torch_compat.random_state import seed_of, seeded
from autosparse.core.training.loop import Team
from autosparse.errors import AutosparseError, StepError
from autosparse.execute.outcome import failures_of
from autosparse.lazy_torch import torch
from autosparse.plan import Step
from autosparse.steps import Work, operations
from autosparse.store import Artifact, Draft

_PATIENCE = timedelta(minutes=10)  # until a member that does not answer is given up
_MEETING = timedelta(minutes=1)  # until one is that was ready


@dataclass(frozen=True)
class _Member:
    """One of the processes: its number, how many they are."""

    rank: int
    size: int

    def mean(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by the mean of all members' ones."""
        torch.distributed.all_reduce(tensor)
        tensor.div_(self.size)

    def lead(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by the first member's."""
        torch.distributed.broadcast(tensor, 0)


def write_output(
    step: Step, inputs: Mapping[str, Artifact], draft: Draft, place: Place, observe: Callable[..., None]
) -> None:
    """Run a step's function, in a team where there are several devices. Its errors are marked with the step.

    What networks and datasets draw by themselves is seeded by the step's key: the same in every cache, process and
    order.
    """
    with failures_of(step), team_of(step, inputs, place) as team, seeded(seed_of("step", step.key)):
        work = Work(inputs, draft, place, step.access, observe, team)
        operations[step.operation].function(work, **dict(step.options))


@contextmanager
def team_of(step: Step, inputs: Mapping[str, Artifact], place: Place) -> Iterator[Team | None]:
    """The team that does a step, of which this process is the first; None where it does it alone.

    Raises StepError with the reason if another member fails, whatever became of this one by that. An
    AutosparseError is raised as it is: what it tells of fails every member alike.
    """
    size = _size(place) if operations[step.operation].facts.get("by_team") else 1
    if size == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = (step.key, step.operation, dict(step.options), dict(inputs), dict(step.access), place)
        others: list[Any] = []
        lines: list[Connection] = []
        over = threading.Event()
        is_done = False
        try:
            with _unheard():
                for rank in range(1, size):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=_serve, args=(rank, size, folder, theirs, *work), daemon=True)
                    process.start()
                    theirs.close()  # so that it is closed when the member is gone
                    others.append(process)
                    lines.append(ours)
            _gather(lines)
            _join(0, size, folder, place)
            threading.Thread(target=_watch, args=(others, over), daemon=True).start()
            yield _Member(0, size)
            is_done = True
        except AutosparseError:
            raise
        except Exception as error:
            if problem := _problem(others, folder, _told(error)):
                raise StepError(problem, "a plain rerun begins it again") from error
            raise
        finally:
            over.set()
            torch.set_num_threads(threads)
            with suppress(Exception):
                torch.distributed.destroy_process_group()
            for process in others:
                process.join(timeout=10 if is_done else 0)
                if process.is_alive():
                    process.kill()
                    process.join()


def _size(place: Place) -> int:
    # As many as there are devices of: fewer than asked for is one.
    if place.device.startswith("cuda"):
        return place.devices if torch.cuda.device_count() >= place.devices else 1
    return place.devices if place.device == "cpu" else 1


@contextmanager
def _unheard() -> Iterator[None]:
    # Ctrl-C reaches the whole group, and the first member decides: those that are begun here do not hear it, not even
    # while they import.
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # the first process begins it, and unblocks Ctrl-C by that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gather(lines: list[Connection]) -> None:
    # Until all others are ready: torch would wait for one that is gone, deaf to Ctrl-C. Raises EOFError for it.
    ready = set[Connection]()
    while len(ready) < len(lines):
        heard = wait(lines, timeout=_PATIENCE.total_seconds())
        if not heard:
            raise TimeoutError("its other processes do not begin")
        for line in lines:
            if line in heard:
                line.recv()
                ready.add(line)
    for line in lines:
        line.send("all are ready")


def _join(rank: int, size: int, folder: Path, place: Place) -> None:
    torch.set_num_threads(max(1, place.threads // size))
    backend, patience = ("nccl", _PATIENCE) if place.device.startswith("cuda") else ("gloo", _MEETING)
    # Not by a `file://` URL: torch would cut a path with `#` or `?` in it.
    store = torch.distributed.FileStore(str(folder / "meeting"), size)  # type: ignore[attr-defined]
    store.set_timeout(patience)
    torch.distributed.init_process_group(
        backend,
        store=store,
        rank=rank,
        world_size=size,
        timeout=patience,
    )
    if backend == "gloo":  # NCCL meets at the first mean, when all have read their data
        assert torch.distributed.group.WORLD
        torch.distributed.group.WORLD.set_timeout(_PATIENCE)


def _serve(
    rank: int,
    size: int,
    folder: Path,
    run: Connection,
    key: str,
    operation: str,
    options: dict[str, Any],
    inputs: dict[str, Artifact],
    access: dict[str, Any],
    place: Place,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    own = replace(place, device=f"cuda:{rank}") if place.device.startswith("cuda") else place
    try:
        local.local(own).prepare()
        run.send("ready")
        run.recv()
        _join(rank, size, folder, own)
        scratch = folder / str(rank)
        scratch.mkdir()
        work = Work(inputs, Draft(scratch), own, access, team=_Member(rank, size))
        with seeded(seed_of("step", key, rank)):  # each member drops other units of its own images
            operations[operation].function(work, **options)
        torch.distributed.destroy_process_group()
    except BaseException as error:
        with suppress(OSError):
            (folder / f"{rank}.txt").write_text(_told(error), encoding="utf-8")
        raise SystemExit(1) from None


def _watch(others: list[Any], over: threading.Event) -> None:
    # A member that dies leaves the others waiting for as long as their library is patient: they end at once.
    while not over.wait(0.2):
        if any(process.exitcode not in (None, 0) for process in others):
            with suppress(Exception):
                assert torch.distributed.group.WORLD
                torch.distributed.group.WORLD.abort()
            return


def _problem(others: list[Any], folder: Path, own: str) -> str:
    # What became of the others first: the one that failed by itself, not those that it took with it. Nothing if this
    # one failed by the same.
    ended = wait([process.sentinel for process in others], timeout=2)
    for process in others:
        if process.sentinel in ended:
            process.join(timeout=2)
    codes = {rank: process.exitcode for rank, process in enumerate(others, start=1) if process.exitcode}
    for rank, code in codes.items():
        if code < 0:
            return f"its process {rank} was ended by {signal.Signals(-code).name}"
    if paths := sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime):
        told = paths[0].read_text(encoding="utf-8")
        return f"its process {paths[0].stem} failed: {told}" if told != own else ""
    return next((f"its process {rank} ended with {code}" for rank, code in codes.items()), "")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
