"""Scorers that ship with the package, each in a folder as a run leaves one: known by the folder's name."""

from __future__ import annotations

from pathlib import Path

from autosparse.errors import UsageError

DEFAULT = "cifar-v1"
"""The one that `autosparse.prune` takes unless it is told another."""

_HERE = Path(__file__).resolve().parent


def pretrained_scorers() -> dict[str, Path]:
    """Name -> folder."""
    return {path.parent.name: path.parent for path in sorted(_HERE.glob("*/scorer.json"))}


def locate_scorer(scorer: str | Path) -> Path:
    """The folder that is meant: that of a scorer that ships, by its very name, or else the one that is written.

    A folder that has such a name is reached as `./NAME`. Raises UsageError for what names neither.
    """
    if not isinstance(scorer, str | Path) or not str(scorer):
        what = "a scorer is a folder or the name of a bundled one"
        raise UsageError(f"{what}, but this is {scorer!r}", f"such as {DEFAULT}")
    if isinstance(scorer, str) and scorer in (known := pretrained_scorers()):
        return known[scorer]
    try:
        return Path(scorer).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UsageError(f"{scorer} cannot be found: {error}") from None
