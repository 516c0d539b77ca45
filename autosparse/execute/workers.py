"""Workers: processes of their own that make steps of one plan side by side, each with as many threads as it says.

A worker compiles the plan from the resolved spec, so that nothing but names, numbers and texts travels; what it makes
goes into the store, where locks keep two processes from making one step. Bytes do not depend on what runs beside.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from autosparse.backends import Place, Tell
from autosparse.errors import AutosparseError, StepError
from autosparse.plan import Plan, Step, compile_plan
from autosparse.spec import take_spec
from autosparse.steps import Metrics
from autosparse.store import Store

_OFTEN = 0.1  # seconds between two tellings of progress

Make = Callable[[str], None]
"""Make one step, by name."""


@dataclass(frozen=True)
class Order:
    """What a worker must know of the plan whose steps it is to make."""

    spec: Mapping[str, Any]
    """the resolved one, as JSON"""
    name: str
    digest: str
    store: Path | None
    """the cache's folder; None is that of the machine where the worker is"""
    shared: str | None
    """URL of the shared store"""
    place: Place
    wait: bool


class Told:
    """An observer that passes on to the run what it is told; `where` is the machine that it is on."""

    def __init__(self, tell: Tell, where: str = "") -> None:
        self._tell, self._where = tell, where
        self._next = 0.0  # when progress is told next

    def started(self, step: Step, where: str = "") -> None:
        self._tell("started", step.name, self._where)

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None:
        if (now := time.monotonic()) >= self._next or done == total:
            self._tell("progress", step.name, done, total, loss)
            self._next = now + _OFTEN

    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None:
        self._tell("finished", step.name, status, seconds, metrics)

    def waiting(self, step: Step) -> None:
        self._tell("waiting", step.name)

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        """Do nothing: the error itself reaches the run, which skips the steps after this one."""

    def note(self, text: str) -> None:
        self._tell("note", text)


def planned(order: Order) -> Plan:
    """The plan of an order. Raises StepError if it is another than the run's."""
    plan = compile_plan(take_spec(order.spec, order.name).spec, order.name)
    if plan.digest != order.digest:
        raise StepError(
            "a worker compiles another plan than the run",
            "its machine must have the same release of autosparse, and the same data and code of your own",
        )
    return plan


def store_of(order: Order) -> Store:
    """The store that a worker of an order uses."""
    if order.store is not None:
        return Store(order.store, order.shared)
    store = Store.default()
    store.connect(order.shared)
    return store


def serve(run: Connection, order: Order, maker: Callable[[Plan, Store, Told, Order], Make]) -> None:
    """Make steps as they are asked for, until the run closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the run decides
    signal.signal(signal.SIGTERM, _end)
    try:
        make = maker(planned(order), store_of(order), Told(lambda *told: run.send(told)), order)
        while name := run.recv():
            try:
                make(name)
            except AutosparseError as error:
                if not error.step:
                    raise
                run.send(("failed", error))
            run.send(("idle",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the run is gone
    except AutosparseError as error:
        with suppress(OSError):  # what was told in the middle of a step may have found the run gone
            run.send(("failed", error))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit  # so that the draft at hand is taken away


class Workers:
    """Workers of one run; a context manager that ends them, whatever they are at when it is left by an exception."""

    def __init__(self, order: Order, number: int, maker: Callable[[Plan, Store, Told, Order], Make]) -> None:
        self._order, self._maker = order, maker
        self._at: dict[Connection, str | None] = {}
        self._processes: dict[Connection, Any] = {}
        self._heard: set[Connection] = set()  # workers that have compiled the plan
        for _ in range(number):
            self._start()

    def _start(self) -> None:
        # Not forked: a process that has threads, as torch and terminals do, cannot be relied on after a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._order, self._maker), daemon=True)
        process.start()
        theirs.close()
        self._at[ours], self._processes[ours] = None, process

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker, process in self._processes.items():
            if kind is None:
                worker.close()  # it ends by itself
            else:
                process.terminate()
        for process in self._processes.values():
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    @property
    def busy(self) -> bool:
        """Whether any of them makes a step."""
        return any(self._at.values())

    @property
    def idle(self) -> Iterator[Connection]:
        """Those that make none."""
        return (worker for worker, at in [*self._at.items()] if at is None)

    def make(self, worker: Connection, name: str) -> None:
        """Have an idle one make a step."""
        self._at[worker] = name
        with suppress(OSError):  # `hear` tells that it is gone
            worker.send(name)

    def check(self, name: str) -> None:
        """A step that the plan fits is one that there is room for."""

    def hear(self) -> Iterator[tuple[Any, ...]]:
        """Yield messages of workers, once one of them sends any. A failure is `("failed", error)`.

        A process that dies fails its step alone, and is replaced if it was the last; one that dies before its first
        message would die again: its error names no step, and ends the run.
        """
        for worker in wait([worker for worker, at in self._at.items() if at is not None]):
            assert isinstance(worker, Connection)
            try:
                told = worker.recv()
                self._heard.add(worker)
            except (EOFError, OSError):  # it may have ended in the middle of a message
                yield self._gone(worker)
                continue
            if told[0] == "idle":
                self._at[worker] = None
            elif told[0] == "failed" and not told[1].step:
                del self._at[worker]
            yield told

    def _gone(self, worker: Connection) -> tuple[str, StepError]:
        process = self._processes[worker]
        process.join(timeout=5)
        code = process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        error = StepError(
            f"step `{self._at[worker]}` failed: its process {how}",
            "where memory ran out, fewer at once take less: `--set target.workers=1`",
        )
        if worker in self._heard:
            error.step = self._at[worker] or ""
        del self._at[worker]
        if error.step and not self._at:
            self._start()
        return "failed", error
