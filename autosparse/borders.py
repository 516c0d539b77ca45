"""Borders: files, texts and foreign code may raise anything, which becomes one error of autosparse, in one line."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autosparse.errors import AutosparseError, FitError, MissingExtra, Terminated, UsageError
from autosparse.text import quoted

_DEEPEST = 20  # causes of an error
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXHAUSTED = re.compile(
    "DefaultCPUAllocator|can't allocate memory|Cannot allocate memory|not enough memory|Unable to allocate|"
    "Storage size calculation overflowed"
)


@contextmanager
def border(refuse: Callable[[BaseException], BaseException]) -> Iterator[None]:
    """Replace whatever is raised inside by the error that `refuse` returns for it, perhaps the same.

    Errors of autosparse, Ctrl-C and SIGTERM pass unchanged. SystemExit and GeneratorExit do not: foreign code may raise
    them, and would end the program with its exit code.
    """
    try:
        yield
    except (AutosparseError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:
        if (refused := refuse(error)) is error:
            raise
        raise refused from error


def refusal(problem: str) -> Callable[[BaseException], BaseException]:
    """Return a function for `border`: errors become a ValueError that `problem` begins, or a FitError.

    torch's exporters wrap the errors of a network, with their causes.
    """

    def refuse(error: BaseException) -> BaseException:
        cause: BaseException | None = error
        for _ in range(_DEEPEST):
            if is_out_of_memory(cause):
                assert cause is not None
                return out_of_memory("exporting the network", cause)
            cause = cause and (cause.__cause__ or cause.__context__)
        inside = error.__cause__ if type(error).__module__.startswith("torch.onnx") else None
        return ValueError(f"{problem}: {first_line(inside or error) or type(error).__name__}")

    return refuse


@contextmanager
def optional(*libraries: str, purpose: str, install: str) -> Iterator[None]:
    """Turn any error of importing optional libraries into a MissingExtra, also that of a damaged installation.

    `purpose` begins the message, such as "dataset `parquet`"; `install` is the argument of `pip install`.
    """

    def missing(error: BaseException) -> MissingExtra:
        hint = f"run `pip install {install}`"
        named = str(getattr(error, "name", "")).partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and named in libraries:
            return MissingExtra(f"{purpose} needs {named}, which is not installed", hint)
        broken = next((one for one in libraries if one not in sys.modules), " and ".join(libraries))
        library = named if named in libraries else broken
        return MissingExtra(f"{purpose} needs {library}, which cannot be imported: {in_short(error)}", hint)

    with border(missing):
        yield


def expand(path: str | Path) -> Path:
    """Return a path with `~` expanded. Raises UsageError for a text that no file can have as its path.

    Errors of the file system, such as a network folder that is gone, are left to the reader of the file.
    """

    def refuse(error: BaseException) -> UsageError:
        return UsageError(
            f"{shown_path(path)} cannot be found: {getattr(error, 'strerror', None) or first_line(error)}"
        )

    with border(refuse):
        expanded = Path(path).expanduser()
        try:
            expanded.stat()
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise
        return expanded


def shown_path(path: str | Path) -> str:
    """Return a path for a message, in quotes and cut if it is long."""
    text = str(path)
    return text if len(text) <= 200 and text.isprintable() else quoted(text)


def reason_of(error: BaseException) -> str:
    """Return an error as a reason: the system's sentence, or else its type and message."""
    return str(getattr(error, "strerror", None) or in_short(error))


def in_short(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    message = first_line(error)
    if message == "None":  # `exit()` has no code
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the colour codes of torch's exporters."""
    with suppress(Exception):  # `__str__` of foreign errors may fail
        return _COLOUR.sub("", str(error)).strip().partition("\n")[0]
    return ""


def out_of_memory(doing: str, error: BaseException) -> FitError:
    """Return the error for memory that ran out; `doing` begins the message, such as "calling `build`"."""
    hint = "choose a smaller network or fewer images, or a machine with more memory"
    return FitError(f"{doing} takes more memory than there is: {in_short(error)}", hint)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether Python, numpy or torch ran out of memory; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_EXHAUSTED.search(first_line(error)))


def is_of_machine(error: BaseException) -> bool:
    """Return whether an error shows a lack of memory or a broken library, and so no damage of the content it reads."""
    return isinstance(error, ImportError) or is_out_of_memory(error)
