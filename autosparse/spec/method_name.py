"""Default names of methods, in reports and steps, from the choices that a spec writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autosparse.core.presets import PRESETS
from autosparse.core.units import n_of_m, units


def default_name(method: Mapping[str, Any]) -> str:
    """Return the name of a method's written choices; of all four if those make the name of another preset."""
    defaults = {"allocation": "global", "selection": "top", "schedule": "one_shot"}
    name = joined({part: method.get(part) for part in ("criterion", *defaults, "repair", "unit", "updates", "horizon")})
    parts = {part: value for part, value in method.items() if part not in ("repair", "unit", "updates", "horizon")}
    if "criterion" in method and name in PRESETS and {**defaults, **parts} != PRESETS[name][1]:
        name = joined({part: {**defaults, **method}[part] for part in ("criterion", *defaults)})
    return name[:60] or "unnamed"


def joined(parts: Mapping[str, Any]) -> str:
    """Return the name of some choices, such as `snip+erk` or `horizon`'s `50pct`."""
    shown = {"horizon": _horizon_name, "unit": _unit_name}
    names = (shown.get(part, _part_name)(value) for part, value in parts.items())
    return "+".join(filter(None, names))


def _horizon_name(value: Any) -> str:
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9_.]+", "", value.replace("%", "pct"))
    return f"{value}steps" if isinstance(value, int) else ""


def _unit_name(value: Any) -> str:
    # `2of4` for all ways to write it.
    value = n_of_m.expanded(value)
    name = value.get("name") if isinstance(value, Mapping) else None
    label = units[name].facts.get("label") if isinstance(name, str) and name in units else None
    if label and {"n", "m"} <= value.keys():
        return _part_name(label(value).replace(":", "of"))
    return _part_name(value)


def _part_name(part: Any) -> str:
    if isinstance(part, Mapping):
        options = (f"{key}-{value}" for key, value in part.items() if key != "name")
        part = ".".join([str(part.get("name", "")), *options])
    return re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.") if isinstance(part, str) else ""
