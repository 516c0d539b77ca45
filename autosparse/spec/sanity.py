"""The `sanity` section: checks of the masks, the methods to check, budget and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, MinLen
from pydantic import BeforeValidator, Discriminator, Tag, WrapValidator
from pydantic_core import PydanticCustomError

from autosparse.core.sanity import CHECKS
from autosparse.registry import suggestion
from autosparse.spec.budget import Budget
from autosparse.spec.choices import about
from autosparse.spec.diagnostics import refusal
from autosparse.spec.section import Different, Section, go_on
from autosparse.text import quoted

if TYPE_CHECKING:
    Check = str
else:
    Check = Literal[tuple(CHECKS)]

BEST = "best"
"""The method of `compare` with the highest validation accuracy."""


def if_true(value: Any) -> Any:
    """Expand `sanity: true` to the section with its defaults, and false to none."""
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, Mapping | Sanity):
        raise refusal(f"must be true, false or a mapping of keys but is {quoted(value)}")
    return value


def _known_check(value: Any) -> Any:
    if value == "quotas":
        hint = "`shuffle` is that check: the same quotas, filled at random"
        raise refusal(f"must be a check but is {quoted(value)}", hint)
    return value


class Sanity(Section):
    """Checks of the accuracy that a method owes to its choice of weights: they alter its masks or their inputs."""

    methods: Annotated[
        tuple[Annotated[str, WrapValidator(go_on)], ...] | Literal["auto"],
        Different(),
        about(
            "names of compared methods to check; `best` is the method of `compare` with the highest validation "
            "accuracy; auto: `method` and `best`"
        ),
    ] = "auto"
    checks: Annotated[
        tuple[Annotated[Check, BeforeValidator(_known_check), WrapValidator(go_on)], ...],
        MinLen(1),
        Different(),
        about("; ".join(f"{name}: {text}" for name, text in CHECKS.items())),
    ] = tuple(CHECKS)
    budget: Annotated[
        Annotated[Literal["max"], Tag("max")] | Annotated[Budget, Tag("budget")],
        Discriminator(lambda value: "max" if value == "max" else "budget"),
        about("budget of the checks, one of `budget`; max: the highest sparsity"),
    ] = "max"
    seeds: Annotated[int, Ge(1), about("number of seeds, from the start of `seeds`")] = 1


def check_checked(
    sanity: Sanity, method: str, compared: Sequence[str], has_baselines: bool
) -> Iterator[PydanticCustomError]:
    """Reject methods to check that are not compared."""
    known = [method, *compared]
    if BEST in known:
        hint = f"`{BEST}` stands for the best of `compare`"
        yield refusal(f"cannot be distinguished from the method of the name {BEST!r}", hint, ("sanity",))
        return
    for index, name in enumerate(sanity.methods if sanity.methods != "auto" else ()):
        if name not in [*known, BEST]:
            hint = suggestion(name, [*known, BEST]) or f"compared are {', '.join(known)}; or `{BEST}`"
            yield refusal(f"must name a method that is compared but is {name!r}", hint, ("sanity", "methods", index))
        if name == BEST and not has_baselines:
            hint = "name some in `compare`"
            yield refusal(f"is {name!r}, but nothing is compared", hint, ("sanity", "methods", index))


def check_checked_budget(sanity: Sanity, budgets: Sequence[Any]) -> Iterator[PydanticCustomError]:
    """Reject a budget that the spec does not have."""
    if sanity.budget not in ("max", *budgets):
        hint = f"{', '.join(map(str, budgets))} or max"
        yield refusal(f"must be one of `budget` but is {sanity.budget}", hint, ("sanity", "budget"))


def check_checked_seeds(sanity: Sanity, seeds: Sequence[int]) -> Iterator[PydanticCustomError]:
    """Reject more seeds than the spec has."""
    if sanity.seeds > len(seeds):
        message = f"must be at most the number of `seeds` but is {sanity.seeds}"
        yield refusal(message, f"{len(seeds)}", ("sanity", "seeds"))
