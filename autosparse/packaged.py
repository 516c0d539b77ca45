"""The version of the package, and the specs and templates in it."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent


def about_shipped(path: Path) -> str:
    """What a spec or template is for: its first comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ")), "")


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of the specs or templates inside the installed package."""
    return folder.resolve().parent == _PACKAGE / "shipped"


def shipped(kind: str) -> dict[str, Path]:
    """The files of `specs` or `templates`, by name without suffix: in the wheel, or beside a source checkout."""
    return {path.stem: path for path in sorted(_folder(kind).glob("*.yaml"))}


def template(name: str) -> str:
    """The text of a template that no spec is made from."""
    return (_folder("templates") / name).read_text(encoding="utf-8")


def _folder(kind: str) -> Path:
    for folder in (_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation lacks its {kind}")
