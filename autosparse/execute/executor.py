"""Runs a plan: in order, reusing what is there, rebuilding what is damaged, resuming what was cut off."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from autosparse.backends import Backend, Crew, Distributed, PeakMemory, Place, Tell, environment, local, release_memory
from autosparse.cost import Counted, Estimate, count_work
from autosparse.errors import AutosparseError, DamagedArtifact, MissingData, MissingExtra, StepError, UsageError
from autosparse.execute.data_parallel import write_output
from autosparse.execute.events import Observer
from autosparse.execute.outcome import Outcome, files_of, find_stale, is_stale, release
from autosparse.execute.workers import Make, Order, Told, Workers, planned, store_of
from autosparse.plan import Plan, Selection, Step, missing_data, missing_libraries, select_steps, statuses, urgency
from autosparse.steps import Metrics, metrics_of
from autosparse.store import Artifact, Draft, InUse, Store, canonical, digest

Result = TypeVar("Result")
_UNKNOWN = 1.0  # seconds of a step without a price


class Execution:
    """One run of a plan, or of a selection of its steps.

    `outcome` is kept up to date, so that it can be told after an interruption.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        observer: Observer,
        *,
        place: Place,
        wait: bool = True,
        selection: Selection | None = None,
        workers: int = 1,
        estimates: Mapping[str, Estimate] | None = None,
        here: bool = False,
    ) -> None:
        self.plan = plan
        self._estimates = estimates or {}
        self._workers = workers
        self._selection = selection or select_steps(plan, statuses(plan, store))
        self._resumed = {name for name, status in self._selection.found.items() if status.status == "resume"}
        self.outcome = Outcome()
        self._counted: Mapping[str, Counted] = {}
        self._malformed: set[str] = set()  # steps whose artifact was made again because its content was wrong
        self._continued: set[str] = set()
        self._elsewhere: Collection[str] = set()  # keys of what is in the shared store
        self._there: Collection[str] = set()  # keys of the artifacts in the cache when the run began
        self._store = store
        self._observer = observer
        self._wait = wait
        self._by_key = {step.key: step for step in plan.steps.values()}
        self._place = place
        self._in_use = InUse(store, plan.digest, {step.key for step in plan.steps.values()})
        backend = plan.spec.target.backend
        self._backend: Backend = local.local(place) if here else backend.entry.function(place, **backend.options())

    def run(self) -> Outcome:
        """Run every step that is not in the cache, or is forced. Raises the failures once all others are finished."""
        self.attempt().check()
        return self.outcome

    def attempt(self) -> Outcome:
        """Run every step that can be run: a failed step is kept in `outcome`, with the steps skipped because of it.

        Raises errors that concern more than one step: missing data, a missing library, a lock that is held.
        """
        begin = time.monotonic()
        steps = [self.plan.steps[name] for name in self._selection.found]
        try:
            with self._in_use:
                if absent := missing_data(self.plan, self._selection.found):
                    raise MissingData(*absent[0])
                if absent := missing_libraries(self.plan, self._selection.found):
                    raise MissingExtra(*absent[0])
                named = [(step.operation, step.key) for step in steps]
                self._elsewhere = self._store.elsewhere(named)
                there = self._there = self._store.present(named)
                missing = [step for step in steps if step.key not in there]
                self._continued = self._before(missing)
                if missing and self._selection.forced and isinstance(self._backend, Distributed):
                    raise UsageError("`--force` makes steps on this machine", "add `--set target.backend=local`")
                together = self._crew(missing) if missing and not self._selection.forced else None
                if together:
                    self._make_together(steps, there, together)
                else:
                    self._make_in_turn(steps, there)
                if self.outcome.changed:
                    self.outcome.stale = find_stale(self._store, [self.plan.steps[n] for n in self.outcome.changed])
        finally:
            self.outcome.seconds = time.monotonic() - begin
        return self.outcome

    def read(self, read: Callable[[], Result]) -> Result:
        """Read artifacts of the finished plan; what turns out damaged is rebuilt and read again.

        `read` must leave out the `unmade` steps of `outcome`, to which a rebuild that fails adds.
        """
        while True:
            try:
                return read()
            except DamagedArtifact as damage:
                step = self._by_key.get(damage.key)
                if step is None or step.name in self.outcome.unmade:
                    raise
                with self._failures():
                    self._rebuild(damage)

    def make(self, name: str) -> None:
        """Make one step whose inputs are there, unless another process does."""
        self._counted = self._counted or count_work(self.plan)
        self._make(self.plan.steps[name])

    def _make_in_turn(self, steps: Sequence[Step], there: Collection[str]) -> None:
        self._counted = count_work(self.plan)
        forced, after = self._selection.forced, self._selection.after
        for step in steps:
            if step.name in self.outcome.unmade:
                continue
            with self._failures():
                if step.key not in there and not self._store.holds(step.operation, step.key):
                    self._make(step)
                elif step.name in forced or (step.name in after and is_stale(self._store, self.plan, step)):
                    self._make_again(step)
                else:
                    self._reused(step)

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
        names = self.plan.steps if self._selection.finishes else self._selection.found
        skipped = self.outcome.fail(error, [self.plan.steps[name] for name in names], self._is_made)
        if is_new:
            self._observer.failed(self.plan.steps[error.step], error.message, skipped)

    def _is_made(self, step: Step) -> bool:
        # An artifact that another process has published since the run began does not count: a worker that waited for
        # its inputs would wait for the step that failed.
        selected = step.name in self._selection.found
        known = step.key in self._there or step.name in self.outcome.steps or not selected
        return known and step.name not in self._selection.forced and self._store.has(step.operation, step.key)

    def _crew(self, missing: Sequence[Step]) -> AbstractContextManager[Crew] | None:
        # Who makes the steps, where that is not this process.
        store, spec = self._store, self.plan.spec.model_dump(mode="json")
        order = Order(spec, self.plan.name, self.plan.digest, store.root, store.url, self._place, self._wait)
        if isinstance(self._backend, Distributed):
            if store.url:
                order = replace(order, store=None)  # every machine has a cache of its own
            on_gpu = self._place.device.startswith("cuda")  # its memory is none that Ray counts
            memory = {} if on_gpu else {name: estimate.peak_bytes for name, estimate in self._estimates.items()}
            return self._backend.crew(partial(make_elsewhere, order), memory, same_machine=not store.url)
        number = min(self._workers, len(missing))
        return Workers(order, number, make_of) if number > 1 else None

    def _make_together(
        self, steps: Sequence[Step], there: Collection[str], together: AbstractContextManager[Crew]
    ) -> None:
        # Each worker takes the most urgent step whose inputs are there.
        for step in steps:
            if step.key in there:
                self._reused(step)
        left = [step for step in steps if step.key not in there and step.name not in self.outcome.unmade]
        urgent = urgency(left, {s.name: getattr(self._estimates.get(s.name), "seconds", _UNKNOWN) for s in left})
        waiting = {step.name: step for step in sorted(left, key=lambda step: -urgent[step.name])}
        unfinished = {*waiting}
        ends: AutosparseError | None = None
        with together as crew:
            for name in waiting:
                crew.check(name)
            while crew.busy or (waiting and not ends):
                for worker in crew.idle if not ends else ():
                    ready = next((s for s in waiting.values() if unfinished.isdisjoint(s.inputs.values())), None)
                    if ready is None:
                        break
                    crew.make(worker, waiting.pop(ready.name).name)
                for kind, *told in crew.hear():
                    if kind == "failed" and told[0].step:
                        self._fail(told[0])
                        waiting = {name: step for name, step in waiting.items() if name not in self.outcome.skipped}
                    elif kind == "failed":
                        ends = ends or told[0]  # what the others are at is finished, and kept
                    elif kind == "note":
                        self._observer.note(*told)
                    elif kind != "idle":
                        self._hear(kind, *told)
                        unfinished -= {told[0]} if kind == "finished" else set()
        if ends:
            raise ends

    def _hear(self, kind: str, name: str, *told: Any) -> None:
        step = self.plan.steps[name]
        if name in self.outcome.steps or name in self.outcome.failed:
            return  # what was told while it was made may come after its end
        if kind == "finished":
            status, seconds, metrics = told
            status = "resume" if status == "run" and name in self._resumed else status
            self.outcome.steps[name] = status
            self.outcome.skipped.pop(name, None)  # a worker had its inputs before one of them was lost
            self._observer.finished(step, status, seconds, metrics)
        else:
            getattr(self._observer, kind)(step, *told)

    def _make(self, step: Step) -> None:
        with self._store.lock(step.key, wait=self._wait, waiting=lambda: self._waiting(step)):
            if self._store.has(step.operation, step.key):  # made by another process in the meantime
                self._reused(step)
            else:
                self._make_locked(step)

    def _make_again(self, step: Step) -> None:
        with self._store.lock(step.key, wait=self._wait, waiting=lambda: self._waiting(step)):
            before = files_of(self._store, step)
            self._make_locked(step, replace=True)
        if before is None:
            return
        if before == files_of(self._store, step):
            self._observer.note(f"`{step.name}` is made again, with the same bytes")
        else:
            self._observer.note(f"`{step.name}` is made again, with other bytes than before")
            self.outcome.changed.append(step.name)

    def _make_locked(self, step: Step, *, replace: bool = False) -> None:
        self._observer.started(step)
        self._backend.prepare()  # its seconds are no step's
        while True:
            begin = time.monotonic()  # of this attempt: what a damaged input takes to be made again is its own
            try:
                made = self._backend.run(lambda place: self._perform(step, place, replace))
                break
            except DamagedArtifact as damage:
                self._rebuild(damage)
        status = self.outcome.steps[step.name] = "resume" if step.name in self._resumed else "run"
        self._observer.finished(step, status, time.monotonic() - begin, metrics_of(made))
        self._share(step, replace=replace)

    def _share(self, step: Step, *, replace: bool = False) -> None:
        # With other machines: what was made or is reused here and is not there yet.
        if self._store.url:
            with suppress(DamagedArtifact):  # noticed when it is read
                self._store.share(step.operation, step.key, replace=replace)
            if self._store.problem:
                self._observer.note(f"{self._store.problem.message}; {self._store.problem.hint}")
                self._store.problem = None

    def _reused(self, step: Step) -> None:
        self.outcome.steps[step.name] = "reuse"
        metrics: Metrics = {}
        if step.name in self._continued:
            with suppress(DamagedArtifact):  # noticed when it is read for what it is
                metrics = metrics_of(self._store.open(step.operation, step.key))
        self._observer.finished(step, "reuse", 0.0, metrics)
        if step.key not in self._elsewhere and self._store.holds(step.operation, step.key):
            self._share(step)

    def _before(self, steps: Sequence[Step]) -> set[str]:
        # Steps of the same operation that these go on from: earlier rounds, earlier trials.
        found, left = set[str](), [*steps]
        while left:
            step = left.pop()
            for before in (self.plan.steps[name] for name in step.inputs.values()):
                if before.operation == step.operation and before.name not in found:
                    found.add(before.name)
                    left.append(before)
        return found

    def _perform(self, step: Step, place: Place, replace: bool) -> Artifact:
        begin = time.monotonic()
        inputs = {role: self._input(name) for role, name in step.inputs.items()}
        release_memory()
        peak = PeakMemory(place.device)
        work = self._counted.get(step.name)

        def write(draft: Draft) -> None:
            def observe(done: int, total: int, loss: float | None = None) -> None:
                self._observer.progress(step, done, total, loss)

            write_output(step, inputs, draft, place, observe)

        return self._store.publish(
            step.operation,
            step.key,
            write,
            lambda: {
                "step": step.name,
                "spec": self.plan.name,
                "version": step.version,
                "options": step.options,
                "inputs": {role: item.key for role, item in inputs.items()},
                "consumed": {role: digest(dict(item.files)) for role, item in inputs.items()},
                "environment": environment(place),
                "peak_bytes": peak.bytes,
                **({"work": {"kind": work.kind, "amount": work.amount, "held": work.held}} if work else {}),
                "seconds": round(time.monotonic() - begin, 3),
                "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            },
            replace=replace,
        )

    def _input(self, name: str) -> Artifact:
        step = self.plan.steps[name]
        if not self._store.has(step.operation, step.key):
            raise DamagedArtifact(step.key, f"artifact of step `{name}` is gone")
        return self._store.bring(step.operation, step.key)

    def _rebuild(self, damage: DamagedArtifact) -> None:
        step = self._by_key.get(damage.key)
        if step is None:
            raise damage
        if failed := self.outcome.failed.get(self.outcome.skipped.get(step.name, step.name)):
            raise failed  # it would fail again
        if damage.created is not None and step.name in self._malformed:
            error = StepError(f"step `{step.name}` failed: made again, it is no better: {damage.message}")
            error.step = step.name
            raise error
        if damage.created is not None:
            self._malformed.add(step.name)
        named = step.operation, step.key
        with self._store.lock(step.key, wait=self._wait, waiting=lambda: self._waiting(step)):
            told = damage.message
            if self._store.holds(*named):
                if self._is_made_again(step, damage):
                    return  # by another process
                told += f"; it is set aside in {self._store.set_aside(*named)}, and"
            else:
                told += ";"
            if damage.created is None and self._store.has(*named):
                self._observer.note(f"{told} `{step.name}` is fetched from the shared store")
            else:
                self._observer.note(f"{told} `{step.name}` is run again")
                self._make_locked(step, replace=damage.created is not None)

    def _is_made_again(self, step: Step, damage: DamagedArtifact) -> bool:
        # Whether its bytes are right, and it is not the one whose content was wrong.
        try:
            artifact = self._store.open(step.operation, step.key)
            artifact.verify()
        except DamagedArtifact:
            return False
        return damage.created is None or str(artifact.descriptor.get("created")) != damage.created

    def _waiting(self, step: Step) -> None:
        self._observer.waiting(step)


def make_of(plan: Plan, store: Store, told: Told, order: Order) -> Make:
    """What a worker makes steps by."""
    # It is asked for steps by name: what there is of the others is the run's concern.
    none = Selection({})
    return Execution(plan, store, told, place=order.place, wait=order.wait, selection=none, here=True).make


def make_elsewhere(order: Order, name: str, tell: Tell) -> None:
    """Make a step of an order in a process of any machine."""
    known_by = canonical([order.spec, order.name, order.digest])
    if known_by not in _PLANS:  # a process makes several steps of one plan, which is compiled once
        _PLANS.clear()
        _PLANS[known_by] = planned(order)
    plan, store = _PLANS[known_by], store_of(order)
    with ExitStack() as stack:
        if order.store is None:  # a cache that the run does not see
            keys = {step.key for step in plan.steps.values()}
            stack.enter_context(InUse(Store(store.root), plan.digest, keys))
        make_of(plan, store, Told(tell, platform.node()), order)(name)


_PLANS: dict[str, Plan] = {}
