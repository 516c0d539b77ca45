"""What is installed beyond the necessary."""

from __future__ import annotations

import re
from importlib import metadata


def missing_extras() -> dict[str, str]:
    """Extras of which something is not installed -> the command that installs them."""
    missing: dict[str, str] = {}
    for requirement in metadata.requires("autosparse") or []:
        extra = re.search(r"extra\s*==\s*['\"](.+?)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra[1] != "test" and not _installed(name[0]):
            missing[extra[1]] = f"pip install 'autosparse[{extra[1]}]'"
    return missing


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
