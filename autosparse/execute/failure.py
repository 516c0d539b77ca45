"""Failures of a step: any error that its function raises, marked with the step's name."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from autosparse.core.foreign_code import in_short, place_of
from autosparse.errors import AutosparseError, DamagedFile, StepError, UsageError
from autosparse.plan import Step


@contextmanager
def failures_of(step: Step) -> Iterator[None]:
    """Mark every error of a step's function with the step, and turn foreign exceptions into StepError.

    Raises other errors of the program unchanged, such as missing data: they concern more than this step.
    """
    try:
        yield
    except StepError as error:
        raise _failed(step, type(error), error.message, error.hint) from error
    except AutosparseError as error:
        if isinstance(error, UsageError | DamagedFile):
            error.step = step.name
        raise
    except Exception as error:  # a step is foreign code as soon as models and data are the user's own
        hint = "what finished before it is kept; `--debug` shows where it failed"
        place = place_of(error)
        raise _failed(step, StepError, f"{f'{place}: ' if place else ''}{in_short(error)}", hint) from error


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
