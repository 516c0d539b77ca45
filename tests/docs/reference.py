"""Generated pages of docs/reference: `python -m tests.docs.reference` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.cli_page import cli_page, codes_page
from tests.docs.json_page import json_page
from tests.docs.spec_page import page as spec_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
GENERATED: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "exit_codes.md": codes_page,
    "json.md": json_page,
    "spec.md": spec_page,
}
"""File of docs/reference -> the function that returns its text."""


if __name__ == "__main__":
    for name, page in GENERATED.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
