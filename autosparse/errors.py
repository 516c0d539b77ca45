"""Errors for users, with their exit codes.

AutosparseError                 1
├── UsageError                  2   an invalid command or argument
│   ├── SpecError               2   a spec that cannot be read or does not validate
│   ├── InvalidValue            2   a value of a spec that contradicts the data, the network or other values
│   └── OwnCodeError            2   an error in user code that a spec names
├── StepError                   1   a failed step; a plain rerun resumes
│   ├── Diverged                1   a training with weights or buffers that are no longer finite
│   └── InternalError          70   an unexpected error of autosparse's code: a bug
├── FitError                    3   a plan that does not fit the target
├── DamagedArtifact             4   an artifact whose bytes or form differ from those that its step wrote
├── DamagedFile                 4   an emitted model whose bytes differ from its card, or hold no model
├── MissingRequirement          5   a missing requirement outside the spec
│   ├── MissingData             5   missing files of a dataset
│   ├── MissingExtra            5   a missing optional library
│   └── MissingDevice           5   a missing device
└── Busy                        6   a resource that another process holds
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

_LONGEST, _LONGEST_VALUE = 2000, 300
_VALUE = re.compile(r"\S{301,}|`[^`]{299,}`|(?<!\w)'[^']{299,}'(?!\w)|(?<!\w)\"[^\"]{299,}\"(?!\w)")


def shortened(text: str) -> str:
    """Return a message of at most 2,000 characters and 300 a value, such as a quoted one; it counts those left out.

    Args:
        text: Message of any length.

    Returns:
        The message, cut.
    """
    return _cut(_VALUE.sub(lambda value: _cut(value[0], _LONGEST_VALUE), text), _LONGEST)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head, tail = most * 3 // 5, most // 5
    return f"{text[:head]} … [{len(text) - head - tail:,} characters left out] … {text[-tail:]}"


class AutosparseError(Exception):
    """Base of all errors: a failure described in one sentence (location, value, rule), with its remedy.

    Args:
        message: Failure in one sentence.
        hint: Remedy in one sentence; Python prints it below the traceback.

    Attributes:
        exit_code: Exit code of the command line.
        step: Name of the failed step, where the failure concerns no other step.
        problems: All failures as (message, hint), where one error stands for several.

    Examples:
        >>> import autosparse
        >>> try:
        ...     autosparse.Masks({})
        ... except AutosparseError as error:
        ...     print(error.message)
        masks must name at least one weight
    """

    exit_code = 1
    step: str = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        message, hint = shortened(message), shortened(hint) if hint else hint
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems: tuple[tuple[str, str | None], ...] = ((message, hint),)
        if hint:  # for library users: Python prints notes below a traceback's message
            self.add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickling, from a worker to its run, recreates exceptions from `args`, of which Exception keeps only the first.
        return type(self), (self.message, self.hint), vars(self)

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str | None]]) -> Self:
        """Combine several problems into one error.

        Args:
            problems: Message and hint of each problem; the first are those of the error.

        Returns:
            The error.
        """
        return cls(*problems[0])._with(problems)

    def _with(self, problems: Sequence[tuple[str, str | None]]) -> Self:
        self.problems = tuple((shortened(message), shortened(hint) if hint else hint) for message, hint in problems)
        for message, hint in self.problems[1:]:
            self.add_note(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
        return self


class UsageError(AutosparseError):
    """Invalid command or argument."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """Mistake in a spec: value and rule in one sentence, its remedy, and its position.

    `file` is a file's name or a command's option, such as `--set training.lr=0`, which has neither line nor column.
    `path` is the dotted path of the value.
    """

    message: str
    hint: str | None = None
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shortened(self.message))
        object.__setattr__(self, "hint", shortened(self.hint) if self.hint else self.hint)

    def __str__(self) -> str:
        """Return the sentence behind its position."""
        position = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{position}: {self.message}" if position else self.message


_MOST_SHOWN = 100


class SpecError(UsageError):
    """Spec that cannot be read or does not validate; `message` and `hint` are those of the first mistake.

    Args:
        message: First mistake.
        hint: Its remedy, for a message without one.
        others: All other mistakes.

    Attributes:
        errors: Every mistake, in the order of the file; `str()` shows the first 100.
    """

    def __init__(self, message: str | Problem, hint: str | None = None, *others: Problem) -> None:
        first = message if isinstance(message, Problem) else Problem(message, hint)
        super().__init__(str(first), None if others else first.hint)
        self.hint = first.hint
        self.errors: tuple[Problem, ...] = (first, *others)
        shown = [(shortened(str(error)), error.hint) for error in self.errors[:_MOST_SHOWN]]
        more = len(self.errors) - len(shown)
        self.problems = (*shown, *([(f"and {more} more", None)] if more else []))

    @classmethod
    def listing(cls, errors: Sequence[Problem]) -> Self:
        """Combine several mistakes into one error.

        Args:
            errors: Mistakes, at least one, in the order of the file.

        Returns:
            The error.
        """
        return cls(errors[0], None, *errors[1:])

    @property
    def summary(self) -> str:
        """The number of mistakes and their files."""
        sources = ("the options" if error.file.startswith("--") else error.file for error in self.errors)
        files = list(filter(None, dict.fromkeys(sources)))
        number = f"{len(self.errors)} error{'s' * (len(self.errors) != 1)}"
        named = " and ".join(filter(None, [", ".join(files[:-1]), *files[-1:]]))
        return shortened(f"{number} in {named}") if files else number

    def __str__(self) -> str:
        """Return every mistake with its hint; a single one without, as Python prints its note."""
        if len(self.errors) == 1:
            return self.message
        lines = [f"{message}\n  hint: {hint}" if hint else message for message, hint in self.problems]
        return "\n".join([self.summary, *lines])


class InvalidValue(UsageError):
    """Value of a spec that contradicts the data, the network or other values.

    Args:
        message: Contradiction in one sentence.
        hint: Remedy in one sentence.
        path: Dotted path of the value in the spec, such as `training.epochs`.
    """

    def __init__(self, message: str, hint: str | None = None, path: str = "") -> None:
        super().__init__(message, hint)
        self.path = path


class OwnCodeError(UsageError):
    """Error in user code that a spec names; the message begins with its file and line."""


class StepError(AutosparseError):
    """Failed step; steps that finished before it are kept."""


class Diverged(StepError):
    """Diverged training: weights or buffers of its network are no longer finite."""


class InternalError(StepError):
    """Unexpected error of autosparse's code: a bug."""

    exit_code = 70


class FitError(AutosparseError):
    """Plan that does not fit the target."""

    exit_code = 3


class DamagedArtifact(AutosparseError):
    """Artifact whose bytes differ from its descriptor, or whose content lacks the form of its step's result.

    Args:
        key: Key of the artifact.
        message: Damage in one sentence.
        hint: Remedy in one sentence.

    Attributes:
        created: Time in the descriptor, for malformed content with valid digests: the bytes cannot show whether the
            artifact was rebuilt.
    """

    exit_code = 4
    created: str | None = None

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.key = key

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str | None]]) -> Self:
        """Combine damages of several artifacts into one error, without a key.

        Args:
            problems: Message and hint of each problem; the first are those of the error.

        Returns:
            The error.
        """
        return cls("", *problems[0])._with(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.message, self.hint), vars(self)


class DamagedFile(AutosparseError):
    """Emitted model whose bytes differ from its card, or hold no model."""

    exit_code = 4


class MissingRequirement(AutosparseError):
    """Missing requirement outside the spec on this machine."""

    exit_code = 5


class MissingData(MissingRequirement):
    """Missing files of a dataset."""


class MissingExtra(MissingRequirement):
    """Missing optional library."""


class MissingDevice(MissingRequirement):
    """Missing device that the target names."""


class Busy(AutosparseError):
    """Resource that another process holds."""

    exit_code = 6


class Terminated(BaseException):
    """SIGTERM from the system: a stop, as KeyboardInterrupt is."""


class AutosparseWarning(UserWarning):
    """Deviation from the request, or a result with less evidence than it suggests.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("error", AutosparseWarning)  # in a script: stop at any deviation
    """
