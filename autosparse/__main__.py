"""Entry point of `autosparse` and `python -m autosparse`."""

from __future__ import annotations

import sys

from autosparse.lazy_torch import yield_cores


def main() -> None:
    """Run the command line; exit quietly on Ctrl-C, also during imports."""
    yield_cores()
    try:
        from autosparse.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
