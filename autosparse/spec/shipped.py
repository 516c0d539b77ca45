"""The specs and templates that travel with the package."""

from __future__ import annotations

from pathlib import Path


def about_shipped(path: Path) -> str:
    """What a spec or template is for: its first comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ")), "")


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of the specs or templates inside the installed package."""
    return folder.resolve().parent == Path(__file__).resolve().parent.parent / "shipped"


def shipped(kind: str) -> dict[str, Path]:
    """The files of `specs` or `templates`, by name without suffix: in the wheel, or beside a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "shipped" / kind, package.parent / kind):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    raise FileNotFoundError(f"the installation lacks its {kind}")
