"""Why a step runs, as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from autosparse.console.screen import plain, results

_STYLES = {"run": "yellow", "resume": "cyan", "reuse": "green"}
_MOST = 6
_SIDES = ("before", "after")


def show_chain(links: Sequence[Mapping[str, Any]]) -> None:
    """A step with its key, reason and inputs, then the steps that its reason comes through."""
    console = results()
    _whole(console, links[0])
    for depth, link in enumerate(links[1:], start=1):
        _line(console, f"{'  ' * depth}after {link['name']}: {link['status']}, {link['reason']}", link["status"])
    if len(links) > 1:
        console.print()
        _whole(console, links[-1])


def _whole(console: Console, link: Mapping[str, Any]) -> None:
    _line(console, f"{link['name']}: {link['status']}, {link['reason']}", link["status"])
    _line(console, f"  key {link['key']} ({link['operation']}, version {link['version']})")
    nearest = link["nearest"]
    if nearest and nearest["key"] != link["key"]:
        spec = nearest["spec"] and f"spec {nearest['spec']}"
        made = ", ".join(filter(None, (nearest["step"], spec, nearest["created"])))
        _line(console, f"  nearest in the cache: {nearest['key'][:12]} ({made})")
    for title, changes in (("changed", link["changes"]), ("made elsewhere", link["environment"])):
        for change in changes:
            before, after = (json.dumps(change[side]) if side in change else "(not set)" for side in _SIDES)
            _line(console, f"  {title}: {change['path']} {before} → {after}")
    for role, source in link["inputs"].items():
        _line(console, f"  input {role}: {source['step']}, {source['status']}, {source['reason']}", source["status"])
    outputs = link["outputs"]
    if outputs:
        more = f" and {len(outputs) - _MOST} more" if len(outputs) > _MOST else ""
        _line(console, f"  needed by {', '.join(outputs[:_MOST])}{more}")


def _line(console: Console, text: str, status: str = "") -> None:
    console.print(plain(text, _STYLES.get(status, "")), soft_wrap=True)
