"""Runs a plan: in order, reusing what is there, rebuilding what is damaged, resuming what was cut off."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from autosparse.backends import Backend, PeakMemory, Place, backends, environment, release_memory
from autosparse.errors import AutosparseError, DamagedArtifact, MissingData, StepError
from autosparse.plan import Counted, Plan, Step, count_work, missing_data, statuses
from autosparse.steps import Work, operations
from autosparse.store import Artifact, Draft, Store, digest

Result = TypeVar("Result")


class Observer(Protocol):
    """Is told what happens while a plan runs."""

    def started(self, step: Step) -> None: ...
    def progress(self, step: Step, done: int, total: int) -> None: ...
    def finished(self, step: Step, status: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class Outcome:
    """What a call did: step name -> `run`, `resume` or `reuse`, and the seconds it took in all."""

    steps: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, status: str) -> int:
        return sum(found == status for found in self.steps.values())


class Execution:
    """One run of a plan. `outcome` is kept up to date, so that it can be told after an interruption."""

    def __init__(self, plan: Plan, store: Store, observer: Observer, *, place: Place, wait: bool = True) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self._resumed: set[str] = set()
        self._counted: Mapping[str, Counted] = {}
        self._store = store
        self._observer = observer
        self._wait = wait
        self._by_key = {step.key: step for step in plan.steps.values()}
        self._place = place
        self._backend: Backend = backends[plan.spec.target.backend.name].function(place)

    def run(self) -> Outcome:
        """Run every step that is not there. Raises StepError for the first one that fails."""
        begin = time.monotonic()
        try:
            found = statuses(self.plan, self._store)
            self._resumed = {name for name, status in found.items() if status.status == "resume"}
            if absent := missing_data(self.plan, found):
                raise MissingData(*absent[0])
            self._counted = count_work(self.plan)
            for step in self.plan.steps.values():
                if self._store.has(step.operation, step.key):
                    self._reused(step)
                else:
                    self._make(step)
        finally:
            self.outcome.seconds = time.monotonic() - begin
        return self.outcome

    def read(self, read: Callable[[], Result]) -> Result:
        """Read artifacts of the finished plan; what turns out damaged is rebuilt and read again."""
        while True:
            try:
                return read()
            except DamagedArtifact as damage:
                self._rebuild(damage)

    def _make(self, step: Step) -> None:
        with self._store.lock(step.key, wait=self._wait, waiting=lambda: self._waiting(step)):
            if self._store.has(step.operation, step.key):  # made by another process in the meantime
                self._reused(step)
            else:
                self._make_locked(step)

    def _make_locked(self, step: Step) -> None:
        self._observer.started(step)
        self._backend.prepare()  # its seconds are no step's
        begin = time.monotonic()
        while True:
            try:
                self._backend.run(lambda place: self._perform(step, place, begin))
                break
            except DamagedArtifact as damage:
                self._rebuild(damage)
        status = self.outcome.steps[step.name] = "resume" if step.name in self._resumed else "run"
        self._observer.finished(step, status, time.monotonic() - begin)

    def _reused(self, step: Step) -> None:
        self.outcome.steps[step.name] = "reuse"
        self._observer.finished(step, "reuse", 0.0)

    def _perform(self, step: Step, place: Place, begin: float) -> Artifact:
        inputs = {role: self._input(name) for role, name in step.inputs.items()}
        release_memory()
        peak = PeakMemory(place.device)
        work = self._counted.get(step.name)

        def write(draft: Draft) -> None:
            def observe(done: int, total: int) -> None:
                self._observer.progress(step, done, total)

            try:
                operations[step.operation].function(
                    Work(inputs, draft, place, step.access, observe), **dict(step.options)
                )
            except StepError as error:
                raise StepError(f"step `{step.name}` failed: {error.message}", error.hint) from error
            except AutosparseError:
                raise
            except Exception as error:  # a step is foreign code as soon as models and data are the user's own
                raise StepError(
                    f"step `{step.name}` failed: {type(error).__name__}: {error}",
                    "what finished before it is kept; `--debug` shows where it failed",
                ) from error

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
                **({"work": {"kind": work.kind, "amount": work.amount}} if work else {}),
                "seconds": round(time.monotonic() - begin, 3),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _input(self, name: str) -> Artifact:
        step = self.plan.steps[name]
        if not self._store.has(step.operation, step.key):
            raise DamagedArtifact(step.key, f"artifact of step `{name}` is gone")
        return self._store.open(step.operation, step.key)

    def _rebuild(self, damage: DamagedArtifact) -> None:
        step = self._by_key.get(damage.key)
        if step is None:
            raise damage
        with self._store.lock(step.key, wait=self._wait, waiting=lambda: self._waiting(step)):
            if self._store.has(step.operation, step.key):
                try:
                    self._store.open(step.operation, step.key).verify()
                except DamagedArtifact:
                    kept = self._store.set_aside(step.operation, step.key)
                    self._observer.note(f"{damage.message}; it is set aside in {kept}, and `{step.name}` is run again")
                else:
                    return  # another process has made it again
            else:
                self._observer.note(f"{damage.message}; `{step.name}` is run again")
            self._make_locked(step)

    def _waiting(self, step: Step) -> None:
        self._observer.note(f"another process is making `{step.name}`; waiting for it")
