"""The errors a user can meet, and the exit code of each.

AutosparseError                 1
├── UsageError                  2   a command or an argument that cannot be obeyed
│   ├── SpecError               2   a spec that cannot be read or does not validate
│   ├── InvalidValue            2   a value of a spec that contradicts the data, the network or other values
│   └── OwnCodeError            2   code of the user's own that a spec names, failing
├── StepError                   1   a step failed; a plain rerun resumes
│   └── Diverged                1   a training's numbers are no longer finite
├── FitError                    3   the plan does not fit the target
├── DamagedArtifact             4   an artifact's bytes or form are not those that its step wrote
├── DamagedFile                 4   an emitted model's bytes are not what its card says, or no model
├── MissingRequirement         5   something outside the spec is missing
│   ├── MissingData             5   a dataset's files
│   ├── MissingExtra            5   an optional library
│   └── MissingDevice           5   a device
└── Busy                        6   another process holds what is needed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self


class AutosparseError(Exception):
    """A failure told in one sentence (place, value, rule) and, in `hint`, its remedy.

    `step` names the step that failed, where the failure concerns no other step. `problems` are all of them,
    (message, hint), where one error stands for several.
    """

    exit_code = 1
    step: str = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems: tuple[tuple[str, str | None], ...] = ((message, hint),)
        if hint:  # for those who call the library: Python prints notes below a traceback's message
            self.add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        # From a worker to its run: exceptions are made again by their arguments, of which Python keeps the first.
        return type(self), (self.message, self.hint), vars(self)

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str | None]]) -> Self:
        """Combine several problems into one error."""
        error = cls(*problems[0])
        error.problems = tuple(problems)
        return error


class UsageError(AutosparseError):
    """A command or an argument that cannot be obeyed."""

    exit_code = 2


class SpecError(UsageError):
    """A spec that cannot be read or does not validate; the message begins with `file:line:column`."""


class InvalidValue(UsageError):
    """A value of a spec that contradicts the data, the network or other values; `path` is its dotted path."""

    def __init__(self, message: str, hint: str | None = None, path: str = "") -> None:
        super().__init__(message, hint)
        self.path = path


class OwnCodeError(UsageError):
    """Code of the user's own that a spec names failed; the message begins with its file and line."""


class StepError(AutosparseError):
    """A step failed; what finished before it is kept."""


class Diverged(StepError):
    """A training diverged: weights or buffers of its network are no longer finite."""


class FitError(AutosparseError):
    """The plan does not fit the target."""

    exit_code = 3


class DamagedArtifact(AutosparseError):
    """An artifact's bytes are not what its descriptor says, or their content has not the form of its step's result.

    For wrong content under right digests, `created` is the time in the descriptor: the bytes cannot show whether
    the artifact was made again.
    """

    exit_code = 4
    created: str | None = None

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.message, self.hint), vars(self)


class DamagedFile(AutosparseError):
    """An emitted model's bytes are not what its card says, or no model at all."""

    exit_code = 4


class MissingRequirement(AutosparseError):
    """Something outside the spec is missing on this machine."""

    exit_code = 5


class MissingData(MissingRequirement):
    """A dataset's files are not where they should be."""


class MissingExtra(MissingRequirement):
    """An optional library is not installed."""


class MissingDevice(MissingRequirement):
    """The device that the target names is not there."""


class Busy(AutosparseError):
    """Another process holds what is needed."""

    exit_code = 6


class AutosparseWarning(UserWarning):
    """Something was done otherwise than asked, or a result says less than it seems to."""
