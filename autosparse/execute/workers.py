"""Workers: processes that run steps of one plan in parallel, on this machine or on others.

A worker compiles the plan from the resolved spec, so that only names, numbers and texts are sent. Artifacts go through
the store, whose locks keep two processes from running one step. Bytes are the same at any degree of parallelism.
"""

from __future__ import annotations

import json
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from autosparse.backends import Emit, Event, Placement, Progress, Raised, Started, local
from autosparse.borders import border
from autosparse.errors import AutosparseError, StepError, Terminated
from autosparse.execute.spawn import spawn
from autosparse.execute.step_runner import StepRunner
from autosparse.foreign_code import unexpected
from autosparse.lazy_torch import yield_cores
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import take_spec
from autosparse.store import Store, in_use

_INTERVAL = 0.1  # seconds between two progress events


@dataclass(frozen=True)
class Order:
    """A plan and its placement: the data with which a worker runs any step by name."""

    spec: str
    """the resolved spec, as JSON"""
    name: str
    digest: str
    store: Path | None
    """the cache's folder; None for the default one of the worker's machine"""
    shared: str | None
    """URL of the shared store"""
    placement: Placement
    wait: bool


@dataclass(frozen=True)
class Idle:
    """The message of a worker whose step has ended."""


class Relay:
    """An observer that sends events to the run, with the name of its machine and a limited rate of progress."""

    def __init__(self, emit: Emit, machine: str = "") -> None:
        self._emit, self._machine = emit, machine
        self._next = 0.0  # earliest time of the next progress event

    def on_event(self, event: Event) -> None:
        """Send an event."""
        if isinstance(event, Started):
            event = replace(event, machine=self._machine)
        elif isinstance(event, Progress):
            if (now := time.monotonic()) < self._next and event.done != event.total:
                return
            self._next = now + _INTERVAL
        self._emit(event)


def run_remote(order: Order, name: str, emit: Emit) -> None:
    """Run a step of an order in a process of any machine."""
    yield_cores()
    runner = _runner(order, Relay(emit, platform.node()))
    with ExitStack() as stack:
        if order.store is None:  # a cache that the run does not see
            stack.enter_context(in_use(Store(Store.default().root), order.digest, {*runner.by_key}))
        runner.run(runner.plan.steps[name])


def serve(run: Connection, order: Order) -> None:
    """Run the steps whose names the run sends, until it closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the run decides
    signal.signal(signal.SIGTERM, _end)
    try:
        with border(unexpected):
            runner = _runner(order, Relay(run.send))
        while name := run.recv():
            try:
                with border(partial(unexpected, step=name)):
                    runner.run(runner.plan.steps[name])
            except AutosparseError as error:
                if not error.step:
                    raise
                run.send(Raised(error))
            run.send(Idle())
    except (EOFError, BrokenPipeError, ConnectionResetError, Terminated):
        pass  # the run is gone
    except AutosparseError as error:
        with suppress(OSError):  # an event in the middle of a step may have shown that the run is gone
            run.send(Raised(error))


@lru_cache(maxsize=1)  # a process runs several steps of one plan
def _compiled(order: Order) -> Plan:
    plan = compile_plan(take_spec(json.loads(order.spec), order.name).spec, order.name)
    if plan.digest != order.digest:
        raise StepError(
            "a worker compiles a plan that differs from the run's",
            "its machine must have the same release of autosparse, and the same data and code of your own",
        )
    return plan


def _runner(order: Order, relay: Relay) -> StepRunner:
    plan = _compiled(order)
    if order.store is None:
        store = Store.default()
        store.connect(order.shared)
    else:
        store = Store(order.store, order.shared)
    return StepRunner(plan, store, relay, local(order.placement), wait=order.wait)


def _end(*_: object) -> None:
    raise Terminated  # so that the draft of the running step is deleted


class Workers:
    """Worker processes of one run; a context manager that ends them, at once when an exception leaves it."""

    def __init__(self, order: Order, number: int) -> None:
        self._order = order
        self._at: dict[Connection, str | None] = {}
        self._processes: dict[Connection, Any] = {}
        self._ready: set[Connection] = set()  # workers that have compiled the plan
        for _ in range(number):
            self._spawn()

    def _spawn(self) -> None:
        # Not forked: a fork of a process with threads, as torch and terminals have, is unreliable.
        ours, theirs = Pipe()
        process = spawn(serve, theirs, self._order)
        theirs.close()
        self._at[ours], self._processes[ours] = None, process

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
        """True while any worker runs a step."""
        return any(self._at.values())

    @property
    def idle(self) -> Iterator[Connection]:
        """The workers without a step."""
        return (worker for worker, at in [*self._at.items()] if at is None)

    def start(self, worker: Connection, name: str) -> None:
        """Run a step on an idle worker."""
        self._at[worker] = name
        with suppress(OSError):  # `receive` notices that it is gone
            worker.send(name)

    def check(self, name: str) -> None:
        """Do nothing: a plan that fits this machine has room for each step."""

    def receive(self) -> Iterator[Event | Raised]:
        """Yield messages of workers, once one of them sends any.

        A process that dies fails its step alone, and is replaced if it was the last; one that dies before its first
        message would die again: its error names no step, and ends the run.
        """
        for worker in wait([worker for worker, at in self._at.items() if at is not None]):
            assert isinstance(worker, Connection)
            try:
                message = worker.recv()
                self._ready.add(worker)
            except (EOFError, OSError):  # it may have ended in the middle of a message
                yield Raised(self._lost(worker))
                continue
            if isinstance(message, Idle):
                self._at[worker] = None
                continue
            if isinstance(message, Raised) and not message.error.step:
                del self._at[worker]
            yield message

    def _lost(self, worker: Connection) -> StepError:
        process = self._processes[worker]
        process.join(timeout=5)
        code = process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"exited with code {code}"
        error = StepError(
            f"step `{self._at[worker]}` failed: its process {how}",
            "if memory ran out, run fewer steps at once: `--set target.workers=1`",
        )
        if worker in self._ready:
            error.step = self._at[worker] or ""
        del self._at[worker]
        if error.step and not self._at:
            self._spawn()
        return error
