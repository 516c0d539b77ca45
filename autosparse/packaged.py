"""Version of the package, and its bundled specs and templates."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent


def about_shipped(path: Path) -> str:
    """Return the purpose of a spec or template: its first comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ")), "")


def is_shipped(folder: Path) -> bool:
    """Return whether a folder is that of the specs or templates inside the installed package."""
    return folder.resolve().parent == _PACKAGE / "shipped"


def shipped(kind: str) -> dict[str, Path]:
    """Return the files of `specs` or `templates`, by name without suffix: from the wheel, or from a source checkout."""
    return {path.stem: path for path in sorted(_folder(kind).glob("*.yaml"))}


def template(name: str) -> str:
    """Return the text of a template that is no spec itself."""
    return (_folder("templates") / name).read_text(encoding="utf-8")


def _folder(kind: str) -> Path:
    for folder in (_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation lacks its {kind}")
