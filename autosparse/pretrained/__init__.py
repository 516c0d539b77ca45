"""Bundled scorers by folder name, each in the folder form of a run's scorer."""

from __future__ import annotations

from pathlib import Path

from autosparse.borders import expand
from autosparse.errors import UsageError

DEFAULT = "cifar-v1"
"""Default scorer of `autosparse.prune`."""

_HERE = Path(__file__).resolve().parent


def pretrained_scorers() -> dict[str, Path]:
    """Return name -> folder of the bundled scorers."""
    return {path.parent.name: path.parent for path in sorted(_HERE.glob("*/scorer.json"))}


def locate_scorer(scorer: str | Path) -> Path:
    """Return the folder of a scorer: of the bundled one with exactly this name, or else the given path.

    `./NAME` selects a folder with the name of a bundled scorer. Raises UsageError if neither exists.
    """
    if not isinstance(scorer, str | Path) or not str(scorer):
        what = "a scorer is a folder or the name of a bundled one"
        raise UsageError(f"{what}, but this is {scorer!r}", f"such as {DEFAULT}")
    if isinstance(scorer, str) and scorer in (known := pretrained_scorers()):
        return known[scorer]
    return expand(scorer)
