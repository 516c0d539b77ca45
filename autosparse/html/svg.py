"""Line charts, bars and timelines as SVG with light and dark themes, and as PNG."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autosparse.errors import MissingExtra
from autosparse.text import visible

STYLE = """
:root { --paper: #ffffff; --ink: #1d2129; --soft: #5b6472; --grid: #dfe3e8; --s0: #0b62c4; --s1: #c4570b; --s2: #11805f;
  --s3: #a3318f; --s4: #7a6400; --s5: #3d6f8e; --s6: #b3261e; --s7: #5c4bb5; --s8: #4c7a1f; --s9: #6b6b6b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e8eaee; --soft: #a2abb8; --grid: #333a44;
  --s0: #6cb2ff; --s1: #ffab66; --s2: #5ed6ae; --s3: #f08bdd; --s4: #e0c64f; --s5: #95c8e8; --s6: #ff8a80;
  --s7: #b3a6ff; --s8: #a6d96a; --s9: #b8b8b8; } }
svg { font: 12px system-ui, sans-serif; background: var(--paper); }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .grid { stroke: var(--grid); }
svg path { fill: none; stroke-width: 2; } svg .main { stroke-width: 3.5; } svg .band { stroke: none; opacity: 0.15; }
svg .apart { stroke-dasharray: 5 4; }
"""
_WIDE, _HIGH = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 190, 34, 44
_COLOURS = 10
_UNSEEN = 1 / 400  # share of the width: bars that overlap by less count as consecutive


@dataclass(frozen=True)
class Series:
    """Points of a line, by x; `spread` is the half width of its band, 0 for none.

    `main` is drawn stronger; `apart`, the references of the comparison, dashed.
    """

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[float] = ()
    main: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Span:
    """Bar on an axis of seconds; `kind` is the index of its colour and of its name in the legend."""

    begin: float
    seconds: float
    kind: int
    label: str


def line_chart(title: str, across: str, up: str, series: Sequence[Series], names: Sequence[str] = ()) -> str:
    """Return a chart of lines; `names` label the integers across, which else are numbers themselves."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    reach = [y + sign * spread for one in series for (_, y), spread in _spread(one) for sign in (-1, 1)]
    room = 0.06 * (max(reach) - min(reach)) or max(1.0, abs(max(reach))) * 0.06
    low, high = min(reach) - room, max(reach) + room
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    width, height = _WIDE - _LEFT - _RIGHT, _HIGH - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        fraction = (x - first) / (last - first) if last > first else 0.5
        return _LEFT + fraction * width, _TOP + height * (high - y) / (high - low)

    parts = []
    for value in _ticks(low, high):
        _, y = at(first, value)
        parts += [
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="soft" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    for value, name in _across(first, last, names):
        x, _ = at(value, low)
        parts.append(f'<text class="soft" x="{x:.1f}" y="{_HIGH - 26}" text-anchor="middle">{escaped(name)}</text>')
    parts += [
        f'<text class="soft" x="{_LEFT + width / 2:.0f}" y="{_HIGH - 8}" text-anchor="middle">{escaped(across)}</text>',
        f'<text class="soft" transform="translate(14 {_TOP + height / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escaped(up)}</text>",
    ]
    for number, one in enumerate(series):
        y, colour = _TOP + 8 + 18 * number, f"var(--s{number % _COLOURS})"
        parts += _line(one, colour, at)
        mark = f'<path class="{_class(one)}" d="M{_WIDE - _RIGHT + 12} {y - 4}h20" stroke="{colour}"/>'
        parts.append(f'{mark}<text x="{_WIDE - _RIGHT + 38}" y="{y}">{escaped(_cut(one.name))}</text>')
    tall = max(_HIGH, _TOP + 18 * len(series) + 12)
    return _svg(title, tall, parts)


def bar_chart(title: str, bars: Sequence[tuple[str, float, str]]) -> str:
    """Return horizontal bars from zero: name, length, and length in words of each."""
    if not bars:
        return ""
    most = max(value for _, value, _ in bars) or 1.0
    parts = []
    for number, (name, value, label) in enumerate(bars):
        y, length = _TOP + 26 * number, (_WIDE - 2 * _RIGHT) * value / most
        parts += [
            f'<text x="{_RIGHT - 8}" y="{y + 14}" text-anchor="end">{escaped(_cut(name))}</text>',
            f'<rect x="{_RIGHT}" y="{y}" width="{max(1.0, length):.1f}" height="18" fill="var(--s0)"/>',
            f'<text class="soft" x="{_RIGHT + length + 6:.1f}" y="{y + 14}">{escaped(label)}</text>',
        ]
    return _svg(title, _TOP + 26 * len(bars) + 8, parts)


def timeline_chart(title: str, spans: Sequence[Span], kinds: Sequence[str]) -> str:
    """Return bars along seconds, each in the first row that is free at its start: parallel rows overlap in time."""
    if not spans:
        return ""
    whole = max(span.begin + span.seconds for span in spans) or 1.0
    width, free = _WIDE - _LEFT - _RIGHT, list[float]()
    parts = []
    for span in sorted(spans, key=lambda span: span.begin):
        row = next((row for row, until in enumerate(free) if until <= span.begin + _UNSEEN * whole), len(free))
        free[row : row + 1] = [span.begin + span.seconds]
        parts.append(
            f'<rect x="{_LEFT + width * span.begin / whole:.2f}" y="{_TOP + 22 * row}" '
            f'width="{max(0.5, width * span.seconds / whole):.2f}" height="18" '
            f'fill="var(--s{span.kind % _COLOURS})"><title>{escaped(span.label)}</title></rect>'
        )
    floor = _TOP + 22 * len(free)
    for value in _ticks(0.0, whole):
        x = _LEFT + width * value / whole
        parts.append(f'<text class="soft" x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{value:g}</text>')
    across = "seconds, pauses left out"
    parts.append(
        f'<text class="soft" x="{_LEFT + width / 2:.0f}" y="{floor + 32}" text-anchor="middle">{across}</text>'
    )
    for kind, name in enumerate(kinds):
        y = _TOP + 18 * kind
        parts += [
            f'<rect x="{_WIDE - _RIGHT + 14}" y="{y}" width="12" height="12" fill="var(--s{kind % _COLOURS})"/>',
            f'<text x="{_WIDE - _RIGHT + 38}" y="{y + 11}">{escaped(_cut(name))}</text>',
        ]
    return _svg(title, max(floor + 40, _TOP + 18 * len(kinds) + 8), parts)


def _svg(title: str, tall: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {tall:.0f}" role="img"'
    heading = f'<text x="{_LEFT}" y="18" font-weight="600">{escaped(title)}</text>'
    return f'{head} aria-label="{escaped(title)}">\n' + "\n".join([heading, *parts]) + "\n</svg>"


def _line(one: Series, colour: str, at: Callable[[float, float], tuple[float, float]]) -> list[str]:
    coordinates = [(*at(x, y), *at(x, y - spread), *at(x, y + spread)) for (x, y), spread in _spread(one)]
    parts = []
    if any(one.spread):
        edge = [f"{x:.1f} {lowest:.1f}" for x, _, _, lowest, _, _ in coordinates]
        edge += [f"{x:.1f} {highest:.1f}" for x, _, _, _, _, highest in reversed(coordinates)]
        parts.append(f'<path class="band" style="fill:{colour}" d="M{"L".join(edge)}Z"/>')
    middle = "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in coordinates)
    parts.append(f'<path class="{_class(one)}" stroke="{colour}" d="M{middle}"/>')
    for (_, value), spread in _spread(one):
        (x, y), label = at(_, value), f"{one.name}: {value:.4g}{f' ± {spread:.2g}' if spread else ''}"
        title = f"<title>{escaped(label)}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">{title}</circle>')
    return parts


def _spread(one: Series) -> list[tuple[tuple[float, float], float]]:
    return list(zip(one.points, one.spread or [0.0] * len(one.points), strict=True))


def _class(one: Series) -> str:
    return "main" if one.main else "apart" if one.apart else "other"


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(step * times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= 6)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _across(first: float, last: float, names: Sequence[str]) -> list[tuple[float, str]]:
    if names:
        every = max(1, math.ceil(len(names) / 12))
        return [(float(index), name) for index, name in enumerate(names) if index % every == 0]
    values = _ticks(first, last) if last > first else [first]
    return [(value, f"{value:g}") for value in values if value == int(value)]


def _cut(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"


def escaped(value: str) -> str:
    """Return a text for HTML or SVG without markup."""
    return html.escape(visible(value))


def standalone(plot: str, style: str = STYLE) -> str:
    """Return a plot as a separate file, with its style."""
    head, _, rest = plot.partition("\n")
    return f"{head}\n<style>{style}</style>\n{rest}\n"


_TIMES = 3  # pixels per unit of the plot


def picture(plot: str) -> bytes:
    """Return a plot as PNG, 2,160 pixels wide, in light colours. Raises MissingExtra without the extra `plots`."""
    try:
        import resvg_py
    except ImportError:
        raise MissingExtra("PNG needs resvg_py", "run `pip install 'autosparse[plots]'`, or write `--svg`") from None
    light = dict(re.findall(r"--(\w+): (#\w+)", STYLE.partition("@media")[0]))
    rules = "\n".join(line for line in STYLE.splitlines() if line.startswith("svg"))
    fixed = re.sub(r"var\(--(\w+)\)", lambda match: light[match[1]], standalone(plot, rules))
    return bytes(resvg_py.svg_to_bytes(svg_string=fixed, background=light["paper"], zoom=_TIMES))
