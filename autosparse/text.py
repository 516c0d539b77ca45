"""What users named, written so that it can do nothing but be read: on a terminal, in a file, in Markdown."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPELLED = {
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "=", "▍": "=", "▎": "-", "▏": "-", "░": ".", "▁": "_", "▂": "_",
    "▃": ".", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "±": "+-", "×": "x", "–": "-", "−": "-", "…": "~", "→": "->",
    "·": "|", "─": "-", "│": "|", "●": "*", "○": "o", "∙": ".",
}  # fmt: skip


def visible(value: object) -> str:
    """What is written, with `?` for every character that is not seen."""
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in str(value))


def spelled(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: signs that a terminal lacks are spelled by those that it has, else `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = ""
    for char in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()  # a letter without its accents
        found += _SPELLED.get(char) or plain or "?"
    return found, error.end


def quoted(value: object) -> str:
    """A value of a spec, short and as it is written there."""
    text = repr(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    text = json.dumps(value, ensure_ascii=False, default=str) if text is None else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[object], shown: int = 6) -> str:
    """Join names by commas; count those after the first few."""
    rest = len(names) - shown
    return ", ".join(map(str, names[:shown])) + (f" and {rest:,} more" if rest > 0 else "")


def literal(text: object) -> str:
    """A text for a table or a line of code, without what would be markup or end either."""
    return visible(re.sub(r"[`|<>\x00-\x1f\x7f]", "_", str(text)))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A table of cells that are Markdown already; `numbers` says that all columns but the first are."""
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *rows))
