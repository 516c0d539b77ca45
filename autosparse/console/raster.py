"""Plots as pictures, for slides and documents that take no SVG."""

from __future__ import annotations

import re

from autosparse.console.plots import STYLE
from autosparse.errors import MissingExtra

_TIMES = 3  # pixels for every unit of the plot


def picture(plot: str) -> bytes:
    """A plot as PNG, 2,160 pixels wide, in light colours. Raises MissingExtra without the extra `plots`."""
    try:
        import resvg_py
    except ImportError:
        raise MissingExtra("PNG needs resvg_py", "run `pip install 'autosparse[plots]'`, or write `--svg`") from None
    light = dict(re.findall(r"--(\w+): (#\w+)", STYLE.partition("@media")[0]))
    rules = "\n".join(line for line in STYLE.splitlines() if line.startswith("svg"))
    head, _, rest = plot.partition("\n")
    whole = f"{head}\n<style>{rules}</style>\n{rest}"
    fixed = re.sub(r"var\(--(\w+)\)", lambda found: light[found[1]], whole)
    return bytes(resvg_py.svg_to_bytes(svg_string=fixed, background=light["paper"], zoom=_TIMES))
