"""The execution of a plan: artifacts in the store are reused, other steps run in order or in parallel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from autosparse.backends import Distributed, Event, Failed, Finished, Note, Observer, Placement, Raised, WorkerPool
from autosparse.cost.price import Estimate
from autosparse.errors import AutosparseError, DamagedArtifact, MissingData, MissingExtra, UsageError
from autosparse.execute.outcome import Outcome, find_stale, is_stale, release
from autosparse.execute.step_runner import StepRunner
from autosparse.execute.workers import Order, Workers, run_remote
from autosparse.planning.graph import urgency
from autosparse.planning.model import Plan, Step
from autosparse.planning.status import Selection, missing_data, missing_libraries, select_steps, statuses
from autosparse.store import Store, in_use

Result = TypeVar("Result")
_UNKNOWN = 1.0  # seconds of a step without a price


class Execution:
    """One run of a plan, or of a selection of its steps.

    `outcome` is kept up to date, so that an interrupted run can report it.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        observer: Observer,
        *,
        placement: Placement,
        wait: bool = True,
        selection: Selection | None = None,
        workers: int = 1,
        estimates: Mapping[str, Estimate] | None = None,
    ) -> None:
        self.plan = plan
        self._store, self._observer = store, observer
        self._selection = selection or select_steps(plan, statuses(plan, store))
        self._workers, self._estimates = workers, estimates or {}
        self._placement, self._wait = placement, wait
        self._present: Collection[str] = ()  # keys of the artifacts in the cache when the run began
        backend = plan.spec.target.backend
        self._backend = backend.entry.function(placement, **backend.options())
        resumed = {name for name, status in self._selection.statuses.items() if status.status == "resume"}
        self._runner = StepRunner(plan, store, observer, self._backend, wait=wait, resumed=resumed)
        self.outcome = self._runner.outcome

    def run(self) -> Outcome:
        """Run every step that is not in the cache, or is forced. Raises the failures once all others are finished."""
        self.attempt().check()
        return self.outcome

    def attempt(self) -> Outcome:
        """Run every step that can be run: a failed step is kept in `outcome`, with the steps skipped because of it.

        Raises errors that concern more than one step: missing data, a missing library, a lock that is held.
        """
        begin = time.monotonic()
        try:
            with in_use(self._store, self.plan.digest, {*self._runner.by_key}):
                self._check_requirements()
                self._run_steps([self.plan.steps[name] for name in self._selection.statuses])
                if self.outcome.changed:
                    self.outcome.stale = find_stale(self._store, [self.plan.steps[n] for n in self.outcome.changed])
        finally:
            self.outcome.seconds = time.monotonic() - begin
        return self.outcome

    def read(self, read: Callable[[], Result]) -> Result:
        """Read artifacts of the finished plan; those that are damaged are rebuilt and read again.

        `read` must leave out the `unmade` steps of `outcome`; a failed rebuild adds to them.
        """
        while True:
            try:
                return read()
            except DamagedArtifact as damage:
                step = self._runner.by_key.get(damage.key)
                if step is None or step.name in self.outcome.unmade:
                    raise
                with self._failures():
                    self._runner.rebuild(damage)

    def _check_requirements(self) -> None:
        if absent := missing_data(self.plan, self._selection.statuses):
            raise MissingData(*absent[0])
        if absent := missing_libraries(self.plan, self._selection.statuses):
            raise MissingExtra(*absent[0])

    def _run_steps(self, steps: Sequence[Step]) -> None:
        named = [(step.operation, step.key) for step in steps]
        self._runner.shared = self._store.elsewhere(named)
        self._present = self._store.present(named)
        missing = [step for step in steps if step.key not in self._present]
        self._runner.continued = continued_by(self.plan, missing)
        forced = self._selection.forced
        if missing and forced and isinstance(self._backend, Distributed):
            raise UsageError("`--force` runs steps on this machine", "add `--set target.backend=local`")
        if missing and not forced and (pool := self._pool(missing)):
            self._run_in_parallel(steps, pool)
        else:
            self._run_in_order(steps)

    def _run_in_order(self, steps: Sequence[Step]) -> None:
        forced, after = self._selection.forced, self._selection.after
        for step in steps:
            if step.name in self.outcome.unmade:
                continue
            with self._failures():
                if step.key not in self._present and not self._store.holds(step.operation, step.key):
                    self._runner.run(step)
                elif step.name in forced or (step.name in after and is_stale(self._store, self.plan, step)):
                    self._runner.rerun(step)
                else:
                    self._runner.reuse(step)

    def _run_in_parallel(self, steps: Sequence[Step], pool: AbstractContextManager[WorkerPool]) -> None:
        # Each worker takes the most urgent step whose inputs are in the store.
        for step in steps:
            if step.key in self._present:
                self._runner.reuse(step)
        left = [step for step in steps if step.key not in self._present and step.name not in self.outcome.unmade]
        urgent = urgency(left, {s.name: getattr(self._estimates.get(s.name), "seconds", _UNKNOWN) for s in left})
        waiting = {step.name: step for step in sorted(left, key=lambda step: -urgent[step.name])}
        unfinished = {*waiting}
        fatal: AutosparseError | None = None
        with pool as workers:
            for name in waiting:
                workers.check(name)
            while workers.busy or (waiting and not fatal):
                for worker in workers.idle if not fatal else ():
                    ready = next((s for s in waiting.values() if unfinished.isdisjoint(s.inputs.values())), None)
                    if ready is None:
                        break
                    workers.start(worker, waiting.pop(ready.name).name)
                for message in workers.receive():
                    if isinstance(message, Raised) and not message.error.step:
                        fatal = fatal or message.error  # running steps are finished, and kept
                    elif isinstance(message, Raised):
                        self._fail(message.error)
                        waiting = {name: step for name, step in waiting.items() if name not in self.outcome.skipped}
                    else:
                        self._relay(message)
                        unfinished -= {message.step} if isinstance(message, Finished) else set()
        if fatal:
            raise fatal

    def _relay(self, event: Event) -> None:
        # An event of a worker: progress may arrive after the end of its step.
        if not isinstance(event, Note):
            if event.step in self.outcome.steps or event.step in self.outcome.failed:
                return
            if isinstance(event, Finished):
                if event.status == "run" and event.step in self._runner.resumed:
                    event = replace(event, status="resume")
                self.outcome.steps[event.step] = event.status
                self.outcome.skipped.pop(event.step, None)  # a worker had its inputs before one of them was lost
        self._observer.on_event(event)

    def _pool(self, missing: Sequence[Step]) -> AbstractContextManager[WorkerPool] | None:
        # The workers that run the steps, unless this process does.
        store, spec = self._store, json.dumps(self.plan.spec.model_dump(mode="json"))
        order = Order(spec, self.plan.name, self.plan.digest, store.root, store.url, self._placement, self._wait)
        if isinstance(self._backend, Distributed):
            if store.url:
                order = replace(order, store=None)  # every machine has its local cache
            on_gpu = self._placement.device.startswith("cuda")  # Ray counts no GPU memory
            memory = {} if on_gpu else {name: estimate.peak_bytes for name, estimate in self._estimates.items()}
            return self._backend.pool(partial(run_remote, order), memory, same_machine=not store.url)
        number = min(self._workers, len(missing))
        return Workers(order, number) if number > 1 else None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except AutosparseError as error:
            self._fail(error)

    def _fail(self, error: AutosparseError) -> None:
        # Raises an error that concerns more than one step.
        if not error.step:
            raise error
        release(error)
        is_new = error.step not in self.outcome.failed
        names = self.plan.steps if self._selection.finishes else self._selection.statuses
        skipped = self.outcome.fail(error, [self.plan.steps[name] for name in names], self._is_made)
        if is_new:
            self._observer.on_event(Failed(error.step, error.message, skipped))

    def _is_made(self, step: Step) -> bool:
        # An artifact that another process has published since the run began does not count: a worker that waited for
        # its inputs would wait for the step that failed.
        selected = step.name in self._selection.statuses
        known = step.key in self._present or step.name in self.outcome.steps or not selected
        return known and step.name not in self._selection.forced and self._store.has(step.operation, step.key)


def continued_by(plan: Plan, steps: Sequence[Step]) -> set[str]:
    """Return the names of earlier steps of the same operation that these continue: earlier rounds, earlier trials."""
    earlier, left = set[str](), [*steps]
    while left:
        step = left.pop()
        for before in (plan.steps[name] for name in step.inputs.values()):
            if before.operation == step.operation and before.name not in earlier:
                earlier.add(before.name)
                left.append(before)
    return earlier
