"""Several processes that do one step together: data-parallel training.

Every member does the whole step, with the same inputs, options and random numbers, and meets the others wherever the
training takes a mean. What the first one writes is the step's output; what the others write is thrown away.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from autosparse.backends import Place, local
from autosparse.core.training import Team
from autosparse.errors import StepError
from autosparse.lazy import torch
from autosparse.plan import Step
from autosparse.steps import Work, operations
from autosparse.store import Artifact, Draft

_PATIENCE = timedelta(minutes=10)  # until a member that does not answer is given up


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


@contextmanager
def team_of(step: Step, inputs: Mapping[str, Artifact], place: Place) -> Iterator[Team | None]:
    """The team that does a step, of which this process is the first; None where it does it alone.

    Raises StepError with the reason if another member fails, whatever became of this one by that.
    """
    size = _size(place) if operations[step.operation].facts.get("by_team") else 1
    if size == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = (step.operation, dict(step.options), dict(inputs), dict(step.access), place)
        others = [
            context.Process(target=_serve, args=(rank, size, folder, *work), daemon=True) for rank in range(1, size)
        ]
        for process in others:
            process.start()
        threads = torch.get_num_threads()
        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(others, over), daemon=True)
        try:
            _join(0, size, folder, place)
            watch.start()
            yield _Member(0, size)
        except Exception as error:
            if problem := _problem(others, folder):
                raise StepError(f"step `{step.name}` failed: {problem}", "a plain rerun begins it again") from error
            raise
        finally:
            over.set()
            torch.set_num_threads(threads)
            with suppress(Exception):
                torch.distributed.destroy_process_group()
            for process in others:
                process.join(timeout=10)
                if process.is_alive():
                    process.kill()
                    process.join()


def _size(place: Place) -> int:
    # As many as there are devices of: fewer than asked for is one.
    if place.device.startswith("cuda"):
        return place.devices if torch.cuda.device_count() >= place.devices else 1
    return place.devices if place.device == "cpu" else 1


def _join(rank: int, size: int, folder: Path, place: Place) -> None:
    torch.set_num_threads(max(1, place.threads // size))
    torch.distributed.init_process_group(
        "nccl" if place.device.startswith("cuda") else "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )


def _serve(
    rank: int,
    size: int,
    folder: Path,
    operation: str,
    options: dict[str, Any],
    inputs: dict[str, Artifact],
    access: dict[str, Any],
    place: Place,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the first member decides
    own = replace(place, device=f"cuda:{rank}") if place.device.startswith("cuda") else place
    try:
        local.local(own).prepare()
        _join(rank, size, folder, own)
        scratch = folder / str(rank)
        scratch.mkdir()
        work = Work(inputs, Draft(scratch), own, access, team=_Member(rank, size))
        operations[operation].function(work, **options)
        torch.distributed.destroy_process_group()
    except BaseException as error:
        with suppress(OSError):
            (folder / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise SystemExit(1) from None


def _watch(others: list[Any], over: threading.Event) -> None:
    # A member that dies leaves the others waiting for as long as their library is patient: they end at once.
    while not over.wait(0.2):
        if any(process.exitcode not in (None, 0) for process in others):
            with suppress(Exception):
                assert torch.distributed.group.WORLD
                torch.distributed.group.WORLD.abort()
            return


def _problem(others: list[Any], folder: Path) -> str:
    # What became of the others first: the one that failed by itself, not those that it took with it.
    for process in others:
        process.join(timeout=2)
    for rank, process in enumerate(others, start=1):
        if process.exitcode is not None and process.exitcode < 0:
            return f"its process {rank} was ended by {signal.Signals(-process.exitcode).name}"
    told = sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
    return f"its process {told[0].stem} failed: {told[0].read_text(encoding='utf-8')}" if told else ""
