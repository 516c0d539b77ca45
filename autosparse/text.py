"""Safe text of user-supplied values for terminals, files and Markdown."""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SPELLED = {
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "=", "▍": "=", "▎": "-", "▏": "-", "░": ".", "▁": "_", "▂": "_",
    "▃": ".", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "±": "+-", "×": "x", "–": "-", "−": "-", "…": "~", "→": "->",
    "·": "|", "─": "-", "│": "|", "●": "*", "○": "o", "∙": ".",
}  # fmt: skip


def visible(value: object) -> str:
    """Return the text, with `?` for every invisible character."""
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in str(value))


def spelled(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error: replace characters that a terminal lacks by similar ones, else by `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelling = ""
    for char in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()  # a letter without its accents
        spelling += _SPELLED.get(char) or plain or "?"
    return spelling, error.end


def quoted(value: object) -> str:
    """Return a value of a spec in short form, as written there."""
    text = repr(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    text = json.dumps(value, ensure_ascii=False, default=str) if text is None else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[object], shown: int = 6) -> str:
    """Join names by commas; count those after the first few."""
    rest = len(names) - shown
    return ", ".join(map(str, names[:shown])) + (f" and {rest:,} more" if rest > 0 else "")


def plural(number: int, noun: str, several: str = "") -> str:
    """Return a count with its noun, such as `1 step` and `1,200 steps`; `several` is an irregular plural."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def with_article(noun: str) -> str:
    """Return a noun after `a` or `an`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def literal(text: object) -> str:
    """Return a text for a table or a line of code, without markup and line breaks."""
    return visible(re.sub(r"[`|<>\x00-\x1f\x7f]", "_", str(text)))


def markdown(text: object) -> str:
    """Return a text for prose or a table of Markdown, without markup, links and line breaks."""
    return re.sub(r"[\\\[\]*]", r"\\\g<0>", literal(text))


def finite(value: Any) -> Any:
    """Return a JSON value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def escaped(text: str) -> str:
    """Return a JSON document with `\\u` escapes for every invisible character except its line breaks."""
    return re.sub(r"[^\n -~]", lambda match: json.dumps(match[0])[1:-1] if visible(match[0]) == "?" else match[0], text)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table of Markdown cells; `numbers` right-aligns all columns but the first."""
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *rows))


UNKNOWN = "unknown"
"""text of a number that is not finite"""
BARS = "▁▂▃▄▅▆▇█"


def shell_word(value: object) -> str:
    """Quote a path or a name as one word of a shell command that is no option."""
    text = str(value)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def sparkline(values: list[float]) -> str:
    """Return a row of bars, from the lowest value to the highest."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = (high - low) or 1.0
    bars = {value: BARS[round((value - low) / span * (len(BARS) - 1))] for value in known}
    return "".join(bars.get(value, "?") for value in values)


def seconds(value: float) -> str:
    """Return a duration with at most two units."""
    if not math.isfinite(value):
        return UNKNOWN
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    days = minutes / 60 / 24
    return f"{days:.3g} days" if days < 100 else f"{days:,.0f} days"


def seconds_range(low: float, high: float) -> str:
    """Return a range of durations in one unit with two digits, such as `40 to 70 min`; one number if both are alike."""
    unit, length = next((one for one in _DURATIONS if high < one[2] * one[1]), _DURATIONS[-1])[:2]
    first, last = (_two_digits(value / length) for value in (low, high))
    return f"{last} {unit}" if first == last else f"{first} to {last} {unit}"


# Unit, its seconds, and the number of it from which the next one is used.
_DURATIONS = (("s", 1.0, 120), ("min", 60.0, 120), ("h", 3600.0, 48), ("days", 86400.0, 0))


def _two_digits(value: float) -> str:
    # Three from 100 on, whole numbers from 10 on.
    return f"{value:.1f}" if value < 9.95 else f"{float(f'{value:.3g}'):,.0f}"


def size(value: float) -> str:
    """Return a number of bytes with three digits."""
    if not math.isfinite(value):
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def trainings(value: float) -> str:
    """Return a cost in dense trainings: an exact 0, and two digits of a small one."""
    if value == 0 or value >= 10 or not math.isfinite(value):
        return number(value)
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}" if value >= 0.0001 else "<0.0001"


def number(value: float) -> str:
    """Return a count with few digits."""
    if not math.isfinite(value):
        return UNKNOWN
    if value < 10_000:
        return f"{value:,.0f}"
    for unit in ("k", "M", "G", "T", "P"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value / 1000:,.3g}E"
