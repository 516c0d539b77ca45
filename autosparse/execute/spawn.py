"""Processes that import autosparse alone, not the program that starts them."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from typing import Any


def spawn(target: Callable[..., None], *arguments: Any) -> SpawnProcess:
    """Start a daemon process for a function of autosparse, which does not run the caller's script again.

    Python's `spawn` imports the main module in the new process. A script that calls `autosparse.run` without
    `if __name__ == "__main__":` would run there once more.
    """
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    with _without_main():
        process.start()
    return process


@contextmanager
def _without_main() -> Iterator[None]:
    main: Any = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__spec__", "__file__") if vars(main).get(name) is not None}
    try:
        vars(main).update(dict.fromkeys(hidden))
        yield
    finally:
        vars(main).update(hidden)
