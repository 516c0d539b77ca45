"""Which spec a command means when none is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from autosparse.errors import UsageError
from autosparse.packaged import shipped
from autosparse.store import Store, digest

FILE = "autosparse.yaml"


@dataclass(frozen=True)
class SpecPath:
    """A spec file and, when it was not named, why it was taken."""

    path: Path
    why: str | None


def find_spec(named: str | None, store: Store) -> SpecPath:
    """The named spec; else `AUTOSPARSE_SPEC`, the last one used here, `autosparse.yaml` here or above, digits.

    A name that is no file but that of a shipped spec, with or without its folder, means the shipped one.
    """
    if named is not None:
        path = Path(named)
        known = shipped("specs")
        ships = path.stem in known and path.suffix in ("", ".yaml") and str(path.parent) in (".", "specs")
        if ships and not path.exists():
            return SpecPath(known[path.stem], f"{named} is not here; taking the spec of that name that ships")
        return SpecPath(path, None)
    if variable := os.environ.get("AUTOSPARSE_SPEC"):
        if not Path(variable).is_file():
            raise UsageError(f"`AUTOSPARSE_SPEC` names {variable}, which is not a file")
        return SpecPath(Path(variable), "it is in `AUTOSPARSE_SPEC`")
    last = store.recall(_memory_key())
    if isinstance(last, str) and Path(last).is_file():
        path = Path(os.path.relpath(last) if Path(last).is_relative_to(Path.cwd()) else last)
        return SpecPath(path, "it is the last one used here")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return SpecPath(folder / FILE if folder != here else Path(FILE), f"it is in {folder}")
    return SpecPath(shipped("specs")["digits"], "no other spec was found: it ships with autosparse")


def remember_spec(path: Path, store: Store) -> None:
    """Make a spec the one that commands in this directory mean."""
    store.remember(_memory_key(), str(path.resolve()))


def _memory_key() -> str:
    return "spec-" + digest(str(Path.cwd()))[:16]
