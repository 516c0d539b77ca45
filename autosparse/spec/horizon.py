"""The horizon of a method: how many training steps may be spent on the masks of the network that is pruned."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from autosparse.core.schedule import schedules
from autosparse.text import quoted

if TYPE_CHECKING:
    from autosparse.spec.choices import Choice
    from autosparse.spec.method import Method
    from autosparse.spec.schema import Spec

HORIZON = "method.horizon"
"""Where a spec says it."""

USUAL = 50
"""Percent of one training of the network that `auto` stands for where no time limit lowers it."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SHARE = re.compile(rf"({_NUMBER}) ?%")
_MOST = 1000  # percent
_MOST_STEPS = 10_000_000


def _horizon(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        meant = ""
        if isinstance(value, float) and (0 < value < 10 or value.is_integer()):
            meant = f"{100 * value:g}%" if 0 < value < 10 else f"{value:.0f}"
        raise PydanticCustomError(
            "horizon",
            "must be whole steps, a share of one training such as 10%, or auto, but is {got}",
            {
                "got": quoted(value),
                "hint": f"did you mean `{meant}`?" if meant else "such as 300, 10% or auto",
            },
        )
    if float(found[1]) > _MOST:
        context = {"got": value.strip(), "most": f"{_MOST}%"}
        raise PydanticCustomError("horizon", "must be at most {most} of one training but is {got}", context)
    return in_percent(float(found[1]))


Horizon = Annotated[
    Annotated[int, Ge(0), Le(_MOST_STEPS)] | Annotated[str, Field(pattern=rf"^{_NUMBER}%$")] | Literal["auto"],
    BeforeValidator(_horizon),
]
"""Steps, a share of one training of the network such as `10%`, or `auto`."""


def horizon_name(value: Any) -> str:
    """What a horizon adds to the name of a method."""
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9_.]+", "", value.replace("%", "pct"))
    return f"{value}steps" if isinstance(value, int) else ""


def check_horizon(schedule: Choice) -> None:
    """Whether a schedule can have a horizon. Raises PydanticCustomError."""
    if "rounds" in schedule.entry.options:
        raise PydanticCustomError(
            "horizon",
            "cannot be given to a method that prunes in rounds, by schedule `{schedule}`",
            {
                "schedule": schedule.name,
                "hint": "with `schedule: one_shot` it can be",
                "at": ("horizon",),
            },
        )


def with_horizon(spec: Spec, steps: int) -> Spec:
    """The spec with the masks of every method that has a horizon searched for so long, if at all.

    `steps` are those of one training of the network that is pruned.
    """
    if all(method.horizon is None for method in spec.methods):
        return spec
    compare = tuple(item if isinstance(item, str) else searched(item, steps) for item in spec.compare)
    return spec.model_copy(update={"method": searched(spec.method, steps), "compare": compare})


def searched(method: Method, steps: int) -> Method:
    """The method with a search of as many steps as its horizon in place of its schedule; without one as it is.

    A search that it has keeps its other options.
    """
    if method.horizon is None:
        return method
    own, schedule = _steps(method.horizon, steps), method.schedule
    learns = schedule.entry.facts.get("learns", False)
    search: Any = {"name": _SEARCH, **(schedule.model_dump() if learns else {}), "steps": own} if own else "one_shot"
    kept = method.model_dump(exclude={"horizon", "schedule"})
    return type(method).model_validate({**kept, "schedule": search})


def in_percent(value: float) -> str:
    """A share of one training as it is written: 50 is `50%`."""
    return f"{value:g}%"


def written_out(method: Method) -> Method:
    """The method with `auto` as the share of a training that it stands for."""
    return method.model_copy(update={"horizon": in_percent(USUAL)}) if method.horizon == "auto" else method


def _steps(horizon: int | str, steps: int) -> int:
    if not isinstance(horizon, str):
        return horizon
    share = float(horizon.rstrip("%")) / 100
    return max(1, round(share * steps)) if share else 0


_SEARCH = next(entry.name for entry in schedules if entry.facts.get("learns"))
