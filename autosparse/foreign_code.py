"""Errors of foreign code (networks, losses, loaders): one line with the file and line of their origin."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autosparse.errors import AutosparseError, OwnCodeError
from autosparse.lazy_torch import torch

_OURS = Path(__file__).parent
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PACKAGES = {"site-packages", "dist-packages"}


@contextmanager
def foreign_code(doing: str, model: torch.nn.Module | None = None) -> Iterator[None]:
    """Turn any error of foreign code into an OwnCodeError of one line.

    `doing` describes the failed action, such as "calling `Net`"; with a `model` the message names the layer that
    raised. Errors of autosparse and out-of-memory errors pass unchanged: a caller may react to them.
    """
    try:
        yield
    except (AutosparseError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        location, layer = location_of(error), layer_of(error, model)
        where = f" in layer `{layer}`" if layer else ""
        start = f"{location}: " if location else ""
        raise OwnCodeError(f"{start}{doing} failed{where}: {in_short(error)}") from error


def location_of(error: BaseException, *, libraries: bool = True) -> str:
    """Return `file:line` of the deepest frame of the user's code, else of `libraries` other than torch; or nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_foreign(Path(frame.filename))]
    users = [frame for frame in theirs if not _PACKAGES & {*Path(frame.filename).parts}]
    chosen = (users or theirs if libraries else users)[-1:]
    return f"{chosen[0].filename}:{chosen[0].lineno}" if chosen else ""


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


def in_short(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    message = first_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the colour codes of torch's exporters."""
    return _COLOUR.sub("", str(error)).strip().partition("\n")[0]


def _is_foreign(path: Path) -> bool:
    if str(path).startswith("<") or path.is_relative_to(_OURS):
        return False
    imported = getattr(sys.modules.get("torch"), "__file__", None)
    if imported and path.is_relative_to(Path(imported).parent):
        return False
    standard = Path(sysconfig.get_path("stdlib"))
    return not path.is_relative_to(standard) or bool(_PACKAGES & {*path.parts})
