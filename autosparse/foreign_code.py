"""Errors of foreign code (networks, losses, loaders): one line with the file and line of their origin."""

from __future__ import annotations

import io
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path

from autosparse.borders import border, in_short, is_out_of_memory, out_of_memory, reason_of
from autosparse.errors import AutosparseError, InternalError, MissingRequirement, OwnCodeError, UsageError
from autosparse.lazy_torch import torch

_OURS = Path(__file__).parent
_PACKAGES = {"site-packages", "dist-packages"}


@contextmanager
def foreign_code(doing: str, model: torch.nn.Module | None = None) -> Iterator[None]:
    """Turn any error of foreign code into an OwnCodeError of one line.

    `doing` describes the failed action, such as "calling `Net`"; with a `model` the message names the layer that
    raised. Errors of autosparse and out-of-memory errors pass unchanged: a caller may react to them.
    """

    def refuse(error: BaseException) -> BaseException:
        if is_out_of_memory(error):
            return error
        location, layer = location_of(error), layer_of(error, model)
        where = f" in layer `{layer}`" if layer else ""
        start = f"{location}: " if location else ""
        return OwnCodeError(f"{start}{doing} failed{where}: {in_short(error)}")

    with border(refuse):
        yield


class _Printed(io.TextIOBase):
    # Stdout of foreign code: all of it goes to stderr, and closing it closes nothing.
    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def close(self) -> None:
        self.flush()


def printing_to_stderr() -> AbstractContextManager[object]:
    """Send what a block prints to stderr: stdout is for results."""
    return redirect_stdout(_Printed())


def location_of(error: BaseException, *, libraries: bool = True) -> str:
    """Return `file:line` of the deepest frame of the user's code, else of `libraries` other than torch; or nothing."""
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in frames if _is_foreign(file)]
    users = [(file, line) for file, line in theirs if not _PACKAGES & {*file.parts}]
    chosen = (users or theirs if libraries else users)[-1:]
    return f"{chosen[0][0]}:{chosen[0][1]}" if chosen else ""


def is_ours(error: BaseException) -> bool:
    """Return whether a line of autosparse raised the error itself, rather than code that it calls: a bug."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    # torch and the system raise from C: these errors have no frame of the code that raised them.
    from_outside = isinstance(error, RuntimeError | OSError | ImportError) and not isinstance(error, RecursionError)
    return bool(frames) and Path(frames[-1]).is_relative_to(_OURS) and not from_outside and not is_out_of_memory(error)


def unexpected(error: BaseException, step: str = "") -> AutosparseError:
    """Return the error that stands for one that no code handles: the machine's, or else a bug.

    It is the same in the command's process and in workers; with a `step`, it fails this step alone.
    """
    start = f"step `{step}` failed: " if step else ""
    made: AutosparseError
    match error:
        case _ if is_out_of_memory(error):
            made = out_of_memory(f"step `{step}`" if step else "the command", error)
        case ImportError():
            problem = f"{start}a library cannot be imported: {in_short(error)}"
            made = MissingRequirement(problem, "install it again")
        case UnicodeEncodeError() if any("\ud800" <= char <= "\udfff" for char in error.object):
            problem = f"{start}a name holds {error.object[error.start]!a}, which is not text"
            made = UsageError(problem, "rename it in UTF-8")
        case OSError():  # such as a full disk behind stdout
            file = error.filename or ("a file" if step else "the output")
            made = MissingRequirement(f"{start}{file} cannot be written or read: {reason_of(error)}")
        case _:
            return internal(error, step)
    made.step = step
    return made


def internal(error: BaseException, step: str = "") -> InternalError:
    """Return the error that stands for a bug, with the step that it breaks, if any."""
    start = f"step `{step}` failed: " if step else ""
    hint = "this is a bug of autosparse: report it with the output of `autosparse doctor`; `--debug` shows all of it"
    made = InternalError(f"{start}internal error: {in_short(error)} in {_origin_of(error)}", hint)
    made.step = step
    return made


def _origin_of(error: BaseException) -> str:
    # `file:line` of the deepest frame of autosparse, else of the deepest frame.
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [(file, line) for file, line in frames if file.is_relative_to(_OURS)]
    for file, line in (ours or frames)[-1:]:
        return f"{file.relative_to(_OURS.parent) if ours else file}:{line}"
    return "an unknown line"


def layer_of(error: BaseException, model: torch.nn.Module | None) -> str:
    """Return the name of the innermost module of `model` whose code was running; empty for none, or the model."""
    if model is None:
        return ""
    names = {id(module): name for name, module in model.named_modules()}
    running = [
        names[id(module)]
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if id(module := frame.f_locals.get("self")) in names
    ]
    return running[-1] if running else ""


def _is_foreign(path: Path) -> bool:
    if str(path).startswith("<") or path.is_relative_to(_OURS):
        return False
    imported = getattr(sys.modules.get("torch"), "__file__", None)
    if imported and path.is_relative_to(Path(imported).parent):
        return False
    standard = Path(sysconfig.get_path("stdlib"))
    return not path.is_relative_to(standard) or bool(_PACKAGES & {*path.parts})
