"""Warnings of the Python API, which point to the line that called autosparse."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

from autosparse.errors import AutosparseWarning

_PACKAGE = str(Path(__file__).parent.parent)


def warn(text: str) -> None:
    """Warn at the innermost line outside autosparse, torch and generated code.

    Args:
        text: Warning in one sentence.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and (
        (file := frame.f_code.co_filename).startswith((_PACKAGE, "<")) or f"{os.sep}torch{os.sep}" in file
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, AutosparseWarning, stacklevel=level)
