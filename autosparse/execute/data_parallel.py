"""Data-parallel training: several processes run one step together.

Every member runs the whole step, with the same inputs, options and random numbers, and reduces gradients and batch
statistics with the others. The output of the first is the step's; those of the others are deleted.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from autosparse.backends import Placement, local
from autosparse.core.torch_compat.random_state import seed_of, seeded
from autosparse.core.training.loop import Checkpoint, Team
from autosparse.errors import AutosparseError, StepError
from autosparse.execute.outcome import failures_of
from autosparse.execute.spawn import spawn
from autosparse.lazy_torch import torch
from autosparse.planning.model import Step
from autosparse.steps import Context, operations
from autosparse.store import Artifact, Draft

_PATIENCE = timedelta(minutes=10)  # timeout of a member that does not answer
_MEETING = timedelta(minutes=1)  # timeout of one that was ready


@dataclass(frozen=True)
class _Assignment:
    """The part of one process in a step; the processes meet in `folder`."""

    rank: int
    size: int
    folder: Path
    step: Step
    inputs: Mapping[str, Artifact]
    placement: Placement


@dataclass(frozen=True)
class _Member:
    """One member's view of the team."""

    rank: int
    size: int

    def mean(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its mean over all members."""
        torch.distributed.all_reduce(tensor)
        tensor.div_(self.size)

    def lead(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by the first member's."""
        torch.distributed.broadcast(tensor, 0)


def write_output(
    step: Step,
    inputs: Mapping[str, Artifact],
    draft: Draft,
    placement: Placement,
    observe: Callable[..., None],
    checkpoint: Checkpoint | None = None,
) -> None:
    """Run a step's function, in a team on several devices. Marks its errors with the step.

    The global random generators, which networks and datasets use, are seeded by the step's key. An interrupted training
    continues from its checkpoint.
    """
    with failures_of(step), team_of(step, inputs, placement) as team, seeded(seed_of("step", step.key)):
        context = Context(inputs, draft, placement, step.access, observe, team, checkpoint=checkpoint)
        operations[step.operation].function(context, **dict(step.options))


@contextmanager
def team_of(step: Step, inputs: Mapping[str, Artifact], placement: Placement) -> Iterator[Team | None]:
    """Yield the team that runs a step, with this process as its first member; None if it runs the step alone.

    Raises StepError with the reason if another member fails, whatever error that causes in this one. An
    AutosparseError is raised as it is: it fails every member alike.
    """
    size = _size(placement) if operations[step.operation].facts.get("by_team") else 1
    if size == 1:
        yield None
        return
    threads = torch.get_num_threads()
    others: list[Any] = []
    over = threading.Event()
    is_done = False
    with tempfile.TemporaryDirectory() as name:
        first = _Assignment(0, size, Path(name), step, inputs, placement)
        try:
            _gather(_start(first, others))
            _join(first)
            threading.Thread(target=_watch, args=(others, over), daemon=True).start()
            yield _Member(0, size)
            is_done = True
        except AutosparseError:
            raise
        except Exception as error:
            if problem := _problem(others, first.folder, _summary(error)):
                raise StepError(problem, "run the same command to retry it") from error
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


def _size(placement: Placement) -> int:
    # The devices asked for, or one if this machine has fewer.
    if placement.device.startswith("cuda"):
        return placement.devices if torch.cuda.device_count() >= placement.devices else 1
    return placement.devices if placement.device == "cpu" else 1


def _start(first: _Assignment, others: list[Any]) -> list[Connection]:
    # Adds each process to `others` as soon as it is started, and returns the connections to them.
    connections: list[Connection] = []
    with _interrupts_blocked():
        for rank in range(1, first.size):
            ours, theirs = Pipe()
            process = spawn(_serve, replace(first, rank=rank), theirs)
            theirs.close()  # so that it is closed when the member is gone
            others.append(process)
            connections.append(ours)
    return connections


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    # Ctrl-C reaches the whole group, and the first member decides: processes that are started here ignore it, even
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


def _gather(members: list[Connection]) -> None:
    # Wait until all others are ready: torch would wait for a dead one, and ignore Ctrl-C. Raises EOFError for it.
    ready = set[Connection]()
    while len(ready) < len(members):
        answered = wait(members, timeout=_PATIENCE.total_seconds())
        if not answered:
            raise TimeoutError("its other processes do not start")
        for member in members:
            if member in answered:
                member.recv()
                ready.add(member)
    for member in members:
        member.send("all are ready")


def _join(member: _Assignment) -> None:
    torch.set_num_threads(max(1, member.placement.threads // member.size))
    backend, patience = ("nccl", _PATIENCE) if member.placement.device.startswith("cuda") else ("gloo", _MEETING)
    # Not by a `file://` URL: torch would cut a path with `#` or `?` in it.
    store = torch.distributed.FileStore(str(member.folder / "meeting"), member.size)  # type: ignore[attr-defined]
    store.set_timeout(patience)
    torch.distributed.init_process_group(
        backend, store=store, rank=member.rank, world_size=member.size, timeout=patience
    )
    if backend == "gloo":  # NCCL meets at the first mean, when all have read their data
        assert torch.distributed.group.WORLD
        torch.distributed.group.WORLD.set_timeout(_PATIENCE)


def _serve(member: _Assignment, run: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    step, scratch = member.step, member.folder / str(member.rank)
    if member.placement.device.startswith("cuda"):
        member = replace(member, placement=replace(member.placement, device=f"cuda:{member.rank}"))
    try:
        local(member.placement).prepare()
        run.send("ready")
        run.recv()
        _join(member)
        scratch.mkdir()
        team = _Member(member.rank, member.size)
        context = Context(member.inputs, Draft(scratch), member.placement, step.access, team=team)
        with seeded(seed_of("step", step.key, member.rank)):  # each member drops other units of its images
            operations[step.operation].function(context, **step.options)
        torch.distributed.destroy_process_group()
    except BaseException as error:
        with suppress(OSError):
            scratch.with_suffix(".txt").write_text(_summary(error), encoding="utf-8")
        raise SystemExit(1) from None


def _watch(others: list[Any], over: threading.Event) -> None:
    # A dead member would leave the others waiting until their library's timeout: end them at once.
    while not over.wait(0.2):
        if any(process.exitcode not in (None, 0) for process in others):
            with suppress(Exception):
                assert torch.distributed.group.WORLD
                torch.distributed.group.WORLD.abort()
            return


def _problem(others: list[Any], folder: Path, summary: str) -> str:
    # The first failure among the other members: later ones are its consequences. Empty if this member failed alike.
    ended = wait([process.sentinel for process in others], timeout=2)
    for process in others:
        if process.sentinel in ended:
            process.join(timeout=2)
    codes = {rank: process.exitcode for rank, process in enumerate(others, start=1) if process.exitcode}
    for rank, code in codes.items():
        if code < 0:
            return f"its process {rank} was killed by {signal.Signals(-code).name}"
    if paths := sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime):
        first = paths[0].read_text(encoding="utf-8")
        return f"its process {paths[0].stem} failed: {first}" if first != summary else ""
    return next((f"its process {rank} exited with code {code}" for rank, code in codes.items()), "")


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
