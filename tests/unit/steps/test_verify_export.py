"""The verifying process: an interrupted request leaves no answer behind for the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from autosparse.steps import verify_export


@contextmanager
def interrupt_soon() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block after a moment, as Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs an alarm of the system")
def test_an_interrupted_request_ends_its_process() -> None:
    """In a notebook the next export starts another one."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", "input(), input()"], stdin=pipe, stdout=pipe, text=True) as process:
        with pytest.raises(KeyboardInterrupt), interrupt_soon():
            verify_export._ask(process, "{}")

        assert process.poll() is not None
