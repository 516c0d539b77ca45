"""Where the weights went, layer by layer, as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from autosparse.console.format import plain
from autosparse.report import LEAST, LayerShare, Profile
from autosparse.text import number

_WIDTH = 8  # of a bar
_NARROW = 100  # columns below which there is room for two methods, else for three
MOST_LAYERS = 12
"""more than these are shown when they are asked for"""


def show_profiles(console: Console, profiles: Sequence[Profile], order: Sequence[str], title: str) -> None:
    """The share of each layer that is left at one budget, of the first methods of `order`; `title` names the budget."""
    found = {profile.method: profile for profile in profiles}
    beside = 2 if console.width < _NARROW else 3
    shown = [found[method] for method in order if method in found][:beside]
    if not shown:
        return
    cut = any(_is_cut(layer) for profile in shown for layer in profile.layers)
    stroke = "; after the stroke those on a path" if cut else ""
    console.print(plain(f"% of each layer's weights that is left at {title}, seed {shown[0].seed}{stroke}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(plain("layer"), overflow="fold")
    table.add_column(plain("weights"), justify="right", no_wrap=True)
    for profile in shown:
        table.add_column(plain(profile.method), overflow="fold")
    for rows in zip(*(profile.layers for profile in shown), strict=True):
        cells = [plain(f"{_bar(layer)} {_told(layer)}") for layer in rows]
        table.add_row(plain(rows[0].name.removesuffix(".weight")), plain(number(rows[0].size)), *cells)
    console.print(table)
    console.print(plain("bars are logarithmic: empty is 0.1 % or less, full is all", "dim"))


def _is_cut(layer: LayerShare) -> bool:
    return layer.effective is not None and layer.effective < layer.kept


def _told(layer: LayerShare) -> str:
    shares = [layer.kept, *([layer.effective] if _is_cut(layer) and layer.effective is not None else [])]
    return "/".join(f"{100 * share / max(1, layer.size):.3g}" for share in shares)


def _bar(layer: LayerShare) -> str:
    share = max(LEAST, layer.kept / max(1, layer.size))
    filled = round(_WIDTH * (1 - math.log(share) / math.log(LEAST)))
    return "█" * filled + "░" * (_WIDTH - filled)
