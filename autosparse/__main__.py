"""`python -m autosparse`."""

from autosparse.cli import main

main()
