"""Rendering of Vega-Lite plots, without a browser: SVG in both themes, PNG, and the bundle that runs in pages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import vl_convert

from autosparse.html.theme import svg_rules
from autosparse.text import visible

_SCALE = 2.5  # pixels per unit of the plot
_EXPORTED = "window.vegaEmbed = vegaEmbed;"


def svg_of(spec: Mapping[str, Any]) -> str:
    """Return a plot as an SVG file that follows the reader's theme."""
    head, end, rest = static_svg(spec).partition(">")
    return f"{head}{end}<style>{svg_rules()}</style>{rest}\n"


def static_svg(spec: Mapping[str, Any]) -> str:
    """Return a plot as SVG for a page that has the theme's rules."""
    return str(vl_convert.vegalite_to_svg(plain(spec), allowed_base_urls=[]))


def png_of(spec: Mapping[str, Any]) -> bytes:
    """Return a plot as PNG in light colours."""
    return bytes(vl_convert.vegalite_to_png(plain(spec), scale=_SCALE, allowed_base_urls=[]))


def script_bundle() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed."""
    return str(vl_convert.javascript_bundle(_EXPORTED))


def plain(value: Any) -> Any:
    """Return a specification with `?` for every invisible character of its texts, and None for numbers not finite."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def json_for_script(spec: Mapping[str, Any]) -> str:
    """Return a specification as JSON that no text of it can end or leave: `<`, `>` and `&` are escapes."""
    text = json.dumps(plain(spec), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
