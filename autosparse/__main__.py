"""Entry point of `autosparse` and `python -m autosparse`."""

from __future__ import annotations

import os
import signal
import sys

from autosparse.lazy_torch import yield_cores


def main() -> None:
    """Run the command line; Ctrl-C and a broken installation end it with one line or none, also during imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)  # an import that catches the exception would go on without its module
    yield_cores()
    try:
        from autosparse.cli import main as run
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        first = str(error).partition("\n")[0]
        sys.stderr.write(f"error: autosparse cannot be imported: {type(error).__name__}: {first}\n")
        sys.stderr.write("hint: install it again, or raise the memory limit (`ulimit -v`)\n")
        sys.exit(5)
    try:
        run()
    except KeyboardInterrupt:  # while the last line is printed
        sys.exit(130)
    finally:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _exit)  # libraries end their threads


def _exit(*_: object) -> None:
    os._exit(130)  # there is nothing to clean up


if __name__ == "__main__":
    main()
