"""The execution of single steps: read or rebuild the inputs, run the function, publish the artifact."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from autosparse.backends import (
    Backend,
    Finished,
    Note,
    Observer,
    PeakMemory,
    Placement,
    Progress,
    Started,
    Waiting,
    environment,
    release_memory,
)
from autosparse.cost.work import Work, count_work
from autosparse.errors import DamagedArtifact
from autosparse.execute.data_parallel import write_output
from autosparse.execute.outcome import Outcome, files_of
from autosparse.measure.timing import stopwatch
from autosparse.planning.model import Plan, Step
from autosparse.steps import Metrics, check, metrics_of
from autosparse.store import Artifact, Draft, Store, digest


class StepRunner:
    """The execution of single steps of a plan: run, re-run, reuse and rebuild; `outcome` records each.

    A step that is in `resumed` finishes with status `resume`. `continued` are reused steps whose metrics are reported,
    `shared` the keys of artifacts that the shared store has.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        observer: Observer,
        backend: Backend,
        *,
        wait: bool = True,
        resumed: Collection[str] = (),
    ) -> None:
        self.plan, self.outcome = plan, Outcome()
        self._store, self._observer, self._backend, self._wait = store, observer, backend, wait
        self.resumed = resumed
        self.continued: Collection[str] = ()
        self.shared: Collection[str] = ()
        self.by_key = {step.key: step for step in plan.steps.values()}
        self._mended: dict[str, set[str]] = {}  # step -> remedies that this process has tried, each once

    @cached_property
    def _works(self) -> dict[str, Work]:
        return count_work(self.plan)

    def run(self, step: Step) -> None:
        """Run a step whose inputs are in the store, unless another process does."""
        with self._lock(step):
            if self._store.has(step.operation, step.key):  # made by another process in the meantime
                self.reuse(step)
            else:
                self._run_locked(step)

    def rerun(self, step: Step) -> None:
        """Run a step whose artifact exists, and replace it."""
        with self._lock(step):
            before = files_of(self._store, step)
            self._run_locked(step, replace=True)
        if before is None:
            return
        if before == files_of(self._store, step):
            self._observer.on_event(Note(f"`{step.name}` is rebuilt with identical bytes"))
        else:
            self._observer.on_event(Note(f"`{step.name}` is rebuilt with different bytes"))
            self.outcome.changed.append(step.name)

    def reuse(self, step: Step) -> None:
        """Record a cache hit, and copy its artifact to the shared store if it is missing there."""
        self.outcome.steps[step.name] = "reuse"
        metrics: Metrics = {}
        if step.name in self.continued:
            with suppress(DamagedArtifact):  # noticed when a step reads it
                metrics = metrics_of(self._store.open(step.operation, step.key))
        self._observer.on_event(Finished(step.name, "reuse", 0.0, metrics))
        if step.key not in self.shared and self._store.holds(step.operation, step.key):
            self._share(step)

    def rebuild(self, damage: DamagedArtifact) -> None:
        """Make the artifact of a damaged step again: use another process's, fetch it, or run the step, each once.

        Raises the step's error if it failed in this run before, and DamagedArtifact if it was run again before.
        """
        step = self.by_key.get(damage.key)
        if step is None:
            raise damage
        if failed := self.outcome.failed.get(self.outcome.skipped.get(step.name, step.name)):
            raise failed
        named, tried = (step.operation, step.key), self._mended.setdefault(step.name, set())
        is_malformed = damage.created is not None
        if is_malformed:
            self._store.distrust(step.key)
        with self._lock(step):
            text = f"{damage.message};"
            if self._store.holds(*named):
                if "waited" not in tried and self._is_rebuilt(step, damage):
                    tried.add("waited")
                    return  # by another process
                text += f" it is moved to {self._store.set_aside(*named)}, and"
            if "run" in tried:
                raise self._unmendable(step, damage)
            if not is_malformed and "fetched" not in tried and self._store.has(*named):
                tried.add("fetched")
                self._observer.on_event(Note(f"{text} `{step.name}` is fetched from the shared store"))
            else:
                tried.add("run")
                self._observer.on_event(Note(f"{text} `{step.name}` is run again"))
                self._run_locked(step, replace=is_malformed)

    def _unmendable(self, step: Step, damage: DamagedArtifact) -> DamagedArtifact:
        text = f"its new artifact is damaged: {damage.message}"
        hint = "check the disk, or name another folder in `AUTOSPARSE_CACHE_DIR`; report it if it stays"
        error = DamagedArtifact(step.key, text, hint)
        error.step = step.name
        return error

    def _is_rebuilt(self, step: Step, damage: DamagedArtifact) -> bool:
        # True for another artifact than the damaged one, with the right bytes and form.
        try:
            artifact = self._store.open(step.operation, step.key)
            check(artifact)
        except DamagedArtifact:
            return False
        return damage.created is None or str(artifact.descriptor.get("created")) != damage.created

    def _lock(self, step: Step) -> AbstractContextManager[object]:
        waiting = Waiting(step.name)
        return self._store.lock(step.key, wait=self._wait, waiting=lambda: self._observer.on_event(waiting))

    def _run_locked(self, step: Step, *, replace: bool = False) -> None:
        work = self._works.get(step.name)
        self._observer.on_event(Started(step.name))
        self._backend.prepare()  # its seconds belong to no step
        while True:
            begin = time.monotonic()  # of this attempt: the time to rebuild an input counts for the input
            try:
                artifact = self._backend.run(lambda placement: self._publish(step, placement, work, replace))
                break
            except DamagedArtifact as damage:
                self.rebuild(damage)
        seconds = time.monotonic() - begin
        try:
            metrics = metrics_of(artifact)
        except DamagedArtifact as damage:
            self._store.set_aside(step.operation, step.key)
            raise self._unmendable(step, damage) from damage
        status = self.outcome.steps[step.name] = "resume" if step.name in self.resumed else "run"
        self._observer.on_event(Finished(step.name, status, seconds, metrics))
        self._share(step, replace=replace)

    def _publish(self, step: Step, placement: Placement, work: Work | None, replace: bool) -> Artifact:
        spent = stopwatch()
        inputs = {role: self._input(self.plan.steps[name]) for role, name in step.inputs.items()}
        release_memory()
        peak = PeakMemory(placement.device)

        def observe(done: int, total: int, loss: float | None = None) -> None:
            self._observer.on_event(Progress(step.name, done, total, loss))

        consumed = {role: digest(dict(item.files)) for role, item in inputs.items()}
        checkpoint = self._store.checkpoint(step.key, [environment(placement), consumed])
        if replace:  # made again from the beginning
            checkpoint.remove()

        def write(draft: Draft) -> None:
            write_output(step, inputs, draft, placement, observe, checkpoint)

        def describe() -> dict[str, Any]:
            elapsed = spent()
            is_known = placement.device == "cpu" and elapsed.slowdown  # else processor time says little
            return {
                "step": step.name,
                "spec": self.plan.name,
                "version": step.version,
                "options": step.options,
                "inputs": {role: item.key for role, item in inputs.items()},
                "consumed": consumed,
                "environment": environment(placement),
                "peak_bytes": peak.bytes,
                **({"work": {"kind": work.kind, "amount": work.load.amount, "held": work.held}} if work else {}),
                "seconds": round(elapsed.wall, 3),
                "idle_seconds": round(elapsed.idle if is_known else elapsed.wall, 3),
                "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            }

        artifact = self._store.publish(step.operation, step.key, write, describe, replace=replace)
        checkpoint.remove()
        return artifact

    def _input(self, step: Step) -> Artifact:
        if not self._store.has(step.operation, step.key):
            raise DamagedArtifact(step.key, f"the artifact of step `{step.name}` is missing")
        return self._store.bring(step.operation, step.key)

    def _share(self, step: Step, *, replace: bool = False) -> None:
        if not self._store.url:
            return
        with suppress(DamagedArtifact):  # noticed when a step reads it
            self._store.share(step.operation, step.key, replace=replace, check=check)
        if self._store.problem:
            self._observer.on_event(Note(f"{self._store.problem.message}; {self._store.problem.hint}"))
            self._store.problem = None
