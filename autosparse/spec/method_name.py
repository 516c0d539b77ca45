"""Names of methods in reports and steps, and the presets that they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autosparse.core.presets import PRESETS
from autosparse.core.units import n_of_m, units
from autosparse.registry import suggestion
from autosparse.spec.diagnostics import refusal
from autosparse.text import quoted

DENSE = "dense"


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


def method_name(value: str) -> str:
    """Return a valid name of a method; raise its refusal otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,59}", value):
        raise refusal(f"must be up to 60 letters, digits, `_`, `.`, `+` or `-` but is {quoted(value)}")
    return value


def preset_of(name: Any) -> Mapping[str, Any]:
    """Return the choices of a preset; raise the refusal of another name."""
    if not isinstance(name, str) or name not in PRESETS:
        hint = suggestion(str(name), [*PRESETS]) or f"presets: {', '.join(PRESETS)}"
        if name == DENSE:
            hint = "the dense network can be listed in `compare`"
        raise refusal(f"must be a method but is {quoted(name)}", hint, ("preset",))
    return PRESETS[name][1]


def changed_preset(method: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a preset with choices replaced, such as `{preset: synflow, repair: reconnect}`, named after both."""
    name, parts = method["preset"], {key: value for key, value in method.items() if key != "preset"}
    changed = joined({key: value for key, value in parts.items() if key != "name"})
    full_name = f"{name}+{changed}"[:60] if changed else name
    return {"name": full_name, **preset_of(name), **parts}
