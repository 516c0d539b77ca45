"""Theme of the plots: light colours with a dark counterpart for each, fonts, axes and legends."""

from __future__ import annotations

from typing import Any

PAPER, INK, SOFT, GRID, SHADE = "#ffffff", "#1d2129", "#5b6472", "#e1e5ea", "#e8f0fb"
PALETTE = ("#0b62c4", "#c4570b", "#11805f", "#a3318f", "#7a6400", "#4a5a6a", "#b3261e")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""marks differ without colours too; one shape fewer than colours, so that pairs repeat late"""
_DARK = {
    PAPER: "#14171c", INK: "#e8eaee", SOFT: "#a2abb8", GRID: "#303742", SHADE: "#1c2a3f",
    "#0b62c4": "#6cb2ff", "#c4570b": "#ffab66", "#11805f": "#5ed6ae", "#a3318f": "#f08bdd", "#7a6400": "#e0c64f",
    "#4a5a6a": "#b4c0cc", "#b3261e": "#ff8a80",
}  # fmt: skip
_FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"

_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "padding": 8,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": SOFT, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8, "labelLimit": 420,
    },
    "axisX": {"labelOverlap": "greedy", "labelFlush": True},
    "axisBand": {"grid": False, "ticks": False, "domain": False, "labelPadding": 6},
    "legend": {
        "orient": "bottom", "symbolOpacity": 1, "labelColor": INK, "titleColor": SOFT, "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 240, "symbolSize": 80, "rowPadding": 4,
        "columnPadding": 16, "symbolStrokeWidth": 2,
    },
    "title": {
        "anchor": "start", "frame": "bounds", "color": INK, "subtitleColor": SOFT, "fontSize": 14,
        "subtitleFontSize": 12, "offset": 12, "subtitlePadding": 6,
    },
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": SOFT},
}  # fmt: skip


def themed(columns: int) -> dict[str, Any]:
    """Return the Vega-Lite configuration of a plot with a limit on the columns of its legend."""
    return {**_CONFIG, "legend": {**_CONFIG["legend"], "columns": max(1, columns)}}


def svg_rules(scope: str = "") -> str:
    """Return CSS for the plots in `scope`: a halo around labels, and dark colours where the reader's theme is dark."""
    rules = [
        f"{scope}[{channel}='{light}' i]{{{channel}:{dark}}}"
        for light, dark in _DARK.items()
        for channel in ("fill", "stroke")
    ]
    light, dark = (f"{scope}.role-mark text{{stroke:{paper}}}" for paper in (PAPER, _DARK[PAPER]))
    halo = f"{scope}.role-mark text{{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}}"
    return f"{halo}{light}\n@media (prefers-color-scheme: dark) {{\n{''.join(rules)}{dark}\n}}"


def colour_variables() -> str:
    """Return the colours of text and paper as CSS variables, in both themes."""
    names = {
        "paper": PAPER,
        "ink": INK,
        "soft": SOFT,
        "grid": GRID,
        "shade": SHADE,
        "accent": PALETTE[0],
        "alert": PALETTE[1],
    }
    light, dark = (
        ";".join(f"--{name}:{colours.get(value, value)}" for name, value in names.items()) for colours in ({}, _DARK)
    )
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"
