"""Markdown of what users named: tables, and texts in which nothing is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def literal(text: object) -> str:
    """A text for a table or a line of code, without what would be markup or end either."""
    return re.sub(r"[`|<>\x00-\x1f\x7f]", "_", str(text))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A table of cells that are Markdown already; `numbers` says that all columns but the first are."""
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *rows))
