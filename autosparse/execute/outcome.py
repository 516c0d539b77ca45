"""The outcome of a run: what each step did, how a failure is named, and stale artifacts."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from autosparse.borders import border, in_short
from autosparse.errors import (
    AutosparseError,
    DamagedArtifact,
    DamagedFile,
    Diverged,
    InternalError,
    MissingRequirement,
    StepError,
    UsageError,
)
from autosparse.foreign_code import internal, is_ours, location_of, printing_to_stderr
from autosparse.planning.model import Plan, Step
from autosparse.planning.status import Status
from autosparse.store import FREE_SPACE, Store, digest, is_full, open_index
from autosparse.text import plural


@contextmanager
def failures_of(step: Step) -> Iterator[None]:
    """Mark every error of a step's function with the step, and turn foreign exceptions into StepError.

    What the function prints goes to stderr: stdout is for results.

    Raises other errors of the program unchanged, such as missing data: they concern more than this step.
    """

    def refuse(error: BaseException) -> AutosparseError:  # models and data may be a user's code
        if is_ours(error):
            return internal(error, step.name)
        if isinstance(error, OSError) and is_full(error):  # every other step would fail as well
            where = error.filename or "a temporary file"
            text = f"step `{step.name}` stopped: {where} cannot be written: {error.strerror or error}"
            return MissingRequirement(text, FREE_SPACE)
        hint = "what finished before it is kept; `--debug` shows where it failed"
        location = location_of(error)
        return _failed(step, StepError, f"{f'{location}: ' if location else ''}{in_short(error)}", hint)

    try:
        with printing_to_stderr(), border(refuse):
            yield
    except StepError as error:
        if error.step:
            raise
        raise _failed(step, type(error), error.message, error.hint) from error
    except AutosparseError as error:
        if isinstance(error, UsageError | DamagedFile):
            error.step = step.name
        raise


def release(error: BaseException) -> None:
    """Free the networks and images that the frames of an error's tracebacks hold; file names and lines remain."""
    cause: BaseException | None = error
    seen = set[int]()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def _failed(step: Step, kind: type[StepError], message: str, hint: str | None) -> StepError:
    error = kind(f"step `{step.name}` failed: {message}", hint)
    error.step = step.name
    return error


@dataclass
class Outcome:
    """The result of a call: step name -> `run`, `resume` or `reuse`, and its duration in seconds.

    `failed` maps a step to its error, `skipped` a step to the failed one that it depends on. `changed` are steps
    whose re-run gave other bytes. `stale` are artifacts, of this plan or another, made from the earlier bytes and
    left unchanged: key -> step name.
    """

    steps: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)
    stale: dict[str, str] = field(default_factory=dict)
    failed: dict[str, AutosparseError] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def count(self, status: str) -> int:
        return sum(one == status for one in self.steps.values())

    @property
    def unmade(self) -> set[str]:
        """Names of the steps that failed or were skipped."""
        return {*self.failed, *self.skipped}

    def fail(self, error: AutosparseError, steps: Iterable[Step], is_made: Callable[[Step], bool]) -> list[str]:
        """Record the error of a step, and skip those of `steps` that depend on it and are not made; return their names.

        `steps` are in an order in which they can run.
        """
        for known in (self.steps, self.skipped):
            known.pop(error.step, None)  # such as a step that was reused until its artifact turned out damaged
        self.failed[error.step] = error
        unmade, skipped = self.unmade, list[str]()
        for step in steps:
            if step.name not in unmade and not unmade.isdisjoint(step.inputs.values()) and not is_made(step):
                unmade.add(step.name)
                skipped.append(step.name)
        self.skipped |= dict.fromkeys(skipped, error.step)
        for name in skipped:
            self.steps.pop(name, None)
        return skipped

    def failures(self) -> list[dict[str, Any]]:
        """Return the failed steps as JSON: status `diverged` or `failed`, error, steps skipped because of it."""
        return [
            {
                "step": name,
                "status": "diverged" if isinstance(error, Diverged) else "failed",
                "message": error.message if isinstance(error, StepError) else f"step `{name}` failed: {error.message}",
                "hint": error.hint,
                "skipped": [step for step, cause in self.skipped.items() if cause == name],
            }
            for name, error in self.failed.items()
        ]

    def problems(self) -> list[tuple[str, str | None]]:
        """Return (message, hint) of every failed step, with the number of steps skipped because of it."""
        return [(with_skipped(one["message"], len(one["skipped"])), one["hint"]) for one in self.failures()]

    def check(self, *, reported: bool = False) -> None:
        """Raise one StepError for all steps that failed; do nothing where none failed.

        A single UsageError is raised as it is, unless the other steps are `reported`: then it is one failure of many.
        Where all failures are damaged artifacts, raise DamagedArtifact: a plain rerun does not resume.
        """
        errors = [*self.failed.values()]
        if len(errors) == 1 and not reported and not isinstance(errors[0], StepError | DamagedArtifact):
            raise errors[0]
        if errors:
            cause = errors[0] if len(errors) == 1 else ExceptionGroup("steps failed", errors)
            raise kind_of(errors).of(self.problems()) from cause


def kind_of(errors: Collection[AutosparseError]) -> type[AutosparseError]:
    """Return the class of the error that stands for those of several steps."""
    if any(isinstance(error, InternalError) for error in errors):
        return InternalError
    return DamagedArtifact if all(isinstance(error, DamagedArtifact) for error in errors) else StepError


def with_skipped(message: str, number: int) -> str:
    """Return a failure's message with the number of steps that were skipped because of it."""
    return f"{message}; {plural(number, 'dependent step')} skipped" if number else message


def made_json(plan: Plan, before: Mapping[str, Status], outcome: Outcome) -> dict[str, Any]:
    """Return the result of a call that does not finish a plan, as `run --only --json` prints it."""
    missing = [name for name, status in before.items() if status.status != "reuse" and name not in outcome.steps]
    return {
        "schema_version": 1,
        "spec": plan.name,
        "run": None,
        "steps": {kind: outcome.count(kind) for kind in ("run", "reuse", "resume")},
        "seconds": round(outcome.seconds, 2),
        "made": [name for name, status in outcome.steps.items() if status != "reuse"],
        "reused": [name for name, status in outcome.steps.items() if status == "reuse"],
        "changed": outcome.changed,
        "stale": list(outcome.stale.values()),
        "missing": missing,
        "failures": outcome.failures(),
    }


def files_of(store: Store, step: Step) -> str | None:
    """Return the digest of an artifact's files; None for one that cannot be trusted."""
    try:
        return digest(dict(store.open(step.operation, step.key).files))
    except DamagedArtifact:
        return None


def is_stale(store: Store, plan: Plan, step: Step) -> bool:
    """Return whether a step's artifact consumed other bytes than its inputs have now."""
    try:
        consumed = store.open(step.operation, step.key).descriptor.get("consumed", {})
    except DamagedArtifact:
        return False  # noticed when it is read
    inputs = {role: files_of(store, plan.steps[name]) for role, name in step.inputs.items()}
    return any(files is not None and consumed.get(role, files) != files for role, files in inputs.items())


def find_stale(store: Store, changed: Collection[Step]) -> dict[str, str]:
    """Find the artifacts of all plans that consumed other bytes than these steps have now: key -> step name."""
    digests = {step.key: files_of(store, step) for step in changed}
    stale = {}
    for record in open_index(store):
        current = {role: digests[key] for role, key in record.inputs.items() if key in digests}
        if current:
            with suppress(DamagedArtifact):  # noticed when it is read
                consumed = store.open(record.operation, record.key).descriptor["consumed"]
                if any(consumed.get(role, now) != now for role, now in current.items()):
                    stale[record.key] = record.step
    return stale
