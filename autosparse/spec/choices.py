"""Sections of a spec, built from signatures: registered functions and dataclasses become pydantic models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from annotated_types import Ge, Lt, MinLen
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.graph.repair import repairs
from autosparse.core.schedule import schedules
from autosparse.core.scorers import scorers
from autosparse.core.selection import selections
from autosparse.core.training.recipe import MOST_EPOCHS, Recipe
from autosparse.core.training.update_rules import update_rules
from autosparse.core.units import n_of_m, units
from autosparse.datasets import datasets
from autosparse.exporters import exporters
from autosparse.models import models
from autosparse.registry import Entry, Option, Registry, options_of, suggestion
from autosparse.spec.diagnostics import UNREAD, refusal
from autosparse.spec.document import METHODS, Incomplete, Rejected
from autosparse.spec.section import Different, Rule, Section, go_on
from autosparse.text import quoted
from autosparse.trackers import trackers
from autosparse.user_code import label


class Choice(Section):
    """A registered function by name, with its options."""

    registry: ClassVar[Registry[Any]]
    name: str

    @property
    def entry(self) -> Entry[Any]:
        return self.registry[self.name]

    @property
    def short_name(self) -> str:
        """The name without folders, for display."""
        return label(self.name)

    def options(self) -> dict[str, Any]:
        """Return every option, defaults written out, as JSON values."""
        return self.model_dump(mode="json", exclude={"name"})

    def keyed(self) -> dict[str, Any]:
        """Return the part of the choice that enters a cache key."""
        known = self.entry.options
        options = {
            name: value
            for name, value in self.options().items()
            if not (name in known and known[name].is_added and value == known[name].default)
        }
        return {"name": self.name, "version": self.entry.version, "options": options}


class OpenChoice(Choice):
    """A function registered under many names, which validates its options itself."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    def rules(self) -> tuple[Rule, ...]:
        return (self._plain_options,)

    def _plain_options(self) -> Iterator[PydanticCustomError]:
        for name, value in (self.model_extra or {}).items():
            if not _is_plain(value):
                message = f"has option `{name}` with a value that cannot be passed on"
                yield refusal(message, "numbers, texts, true, false, null and lists of them")


def _is_plain(value: Any) -> bool:
    if isinstance(value, Rejected):
        return True  # reported by the reader
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    return all(map(_is_plain, value)) if isinstance(value, tuple | list) else True


def about(text: str) -> Any:
    """Describe a key for the JSON Schema."""
    return Field(description=text)


def section_of(function: Callable[..., Any]) -> Any:
    """Return a Section with the keyword-only arguments of a dataclass as its fields."""
    return create_model(function.__name__, __base__=Section, __doc__=function.__doc__, **_fields(options_of(function)))


def choice_of(registry: Registry[Any]) -> Any:
    """Return the type of a field that names a registered function: `snip`, or `{name: snip, images: 512}`."""

    def spread(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            message = f"must be the name of {_a(registry.kind)}, or a mapping with `name`, but is {quoted(value)}"
            raise refusal(message, registry.suggest(""))
        name = value.get("name")
        if isinstance(name, Rejected) or (isinstance(value, Incomplete) and name is None):
            raise PydanticCustomError(UNREAD, "")
        if not isinstance(name, str) or name not in registry:
            hint = registry.suggest(str(name))
            if name is None:
                raise refusal(f"needs the `name` of {_a(registry.kind)}", hint)
            raise refusal(f"must be {_a(registry.kind)} but is {quoted(name)}", hint, ("name",))
        return value

    def tag(value: Any) -> Any:
        return registry.template(value["name"] if isinstance(value, Mapping) else value.name)

    members = tuple(Annotated[_member(registry, entry), Tag(entry.name)] for entry in registry)
    union = Union[members] if len(members) > 1 else members[0]  # noqa: UP007  # built at run time
    chosen = Annotated[union, Field(discriminator=Discriminator(tag))] if len(members) > 1 else union
    patterns = [Annotated[str, Field(pattern=f"^(?:{entry.pattern})$")] for entry in registry if entry.pattern]
    written: Any = Union[(Literal[registry.names], *patterns, union)]
    return Annotated[chosen, BeforeValidator(spread, json_schema_input_type=written), WrapValidator(go_on)]


def _member(registry: Registry[Any], entry: Entry[Any]) -> type[Choice]:
    named: Any = Annotated[str, Field(pattern=f"^(?:{entry.pattern})$")] if entry.pattern else Literal[entry.name]
    fields: dict[str, Any] = {"name": (named, ...), **_fields(entry.options)}
    model = create_model(
        re.sub(r"\W+", "_", f"{registry.kind}_{entry.name}"),
        __base__=OpenChoice if entry.pattern else Choice,
        __doc__=entry.description,
        **fields,
    )
    model.registry = registry
    return model


def _fields(options: Mapping[str, Option]) -> dict[str, Any]:
    return {
        option.name: (
            Annotated[_type(option), Field(description=option.help)],
            ... if option.required else option.default,
        )
        for option in options.values()
    }


def _type(option: Option) -> Any:
    # The type of an option; a dataclass that it may be becomes a section.
    if (mapping := option.mapping) is None:
        return option.annotation
    plain = tuple(one for one in get_args(get_args(option.annotation)[0]) if one is not mapping)
    members = Annotated[Union[plain], Tag("plain")], Annotated[section_of(mapping), Tag("mapping")]  # noqa: UP007
    chosen = Discriminator(lambda value: "mapping" if isinstance(value, Mapping | Section) else "plain")
    return Annotated[Union[members], chosen]  # noqa: UP007  # built at run time


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeio" or noun.startswith("up") else f"a {noun}"  # a unit


def _pattern(value: Any) -> Any:
    # `2:4` and `{n: 2, m: 4}`. YAML 1.1 reads `2:4` to base 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value // 60 < value % 60:
        message = f"must be the name of a unit, or a pattern such as `2:4`, but is {value}"
        raise refusal(message, f'did you mean "{value // 60}:{value % 60}"? Some YAML readers need the quotes')
    return value if isinstance(value, Incomplete) else n_of_m.expanded(value)


if TYPE_CHECKING:
    # For type checkers a choice is a Choice; at run time it is the union of all that are registered.
    Training = Recipe
    ModelChoice = Choice
    DatasetChoice = Choice
    CriterionChoice = Choice
    AllocationChoice = Choice
    SelectionChoice = Choice
    ScheduleChoice = Choice
    RepairChoice = Choice
    UnitChoice = Choice
    UpdatesChoice = Choice
    ScorerChoice = Choice
    FormatChoice = Choice
    TrackerChoice = Choice
else:
    Training = section_of(Recipe)
    ModelChoice, DatasetChoice = choice_of(models), choice_of(datasets)
    CriterionChoice, AllocationChoice = choice_of(criteria), choice_of(allocations)
    SelectionChoice, ScheduleChoice = choice_of(selections), choice_of(schedules)
    RepairChoice, ScorerChoice = choice_of(repairs), choice_of(scorers)
    UpdatesChoice = choice_of(update_rules)
    UnitChoice = Annotated[
        choice_of(units),
        BeforeValidator(
            _pattern,
            json_schema_input_type=Annotated[str, Field(pattern=r"^[0-9]+:[0-9]+$")]
            | create_model(
                "pattern", __base__=Section, __doc__=units["n_of_m"].description, **_fields(units["n_of_m"].options)
            )
            | choice_of(units),
        ),
    ]
    FormatChoice, TrackerChoice = choice_of(exporters), choice_of(trackers)


MOST_RECIPES = 256
"""The most combinations of values that methods choose from."""

_OF_MACHINES = ("precision", "kernels")


def check_values(fields: Mapping[str, Sequence[Any]], training: Any) -> Iterator[PydanticCustomError]:
    """Yield the refusals of fields of a recipe, and of their values, that every method is to choose from."""
    known = [name for name in type(training).model_fields if name not in _OF_MACHINES]
    for name, values in fields.items():
        if name not in known:
            message = f"must be a field of `training` but is {quoted(name)}"
            if name in _OF_MACHINES:
                message = f"would choose by `{name}`, which changes the speed of a training, not the method"
            near = suggestion(name, [*known, METHODS])
            yield refusal(message, near or f"fields: {', '.join(known)}", ("per_method", name))
            continue
        if (number := math.prod(map(len, fields.values()))) > MOST_RECIPES:
            yield refusal(f"makes {number:,} combinations of values", f"at most {MOST_RECIPES}", ("per_method", name))
            return
        if len(values) == 1:
            yield refusal("leaves one value to choose from", "give several", ("per_method", name))
        for index, value in enumerate(values):
            at = ("per_method", name, index)
            if value in values[:index]:
                yield refusal(f"repeats {quoted(value)}", "name it once", at)
            try:
                type(training).model_validate({**training.model_dump(), name: value}, strict=True)
            except ValidationError as error:
                yield refusal(f"is no `training.{name}`: {error.errors()[0]['msg']}", None, at)


def check_lengths(lengths: Sequence[float], epochs: float, *, chosen: bool) -> Iterator[PydanticCustomError]:
    """Yield the refusals of the lengths of dense networks, in multiples of a recipe's epochs, which may be `chosen`."""
    for index, length in enumerate(lengths):
        if length == 1:
            yield refusal("is the length of `dense` in `compare`", "write `dense` there", ("dense_lengths", index))
        if length * epochs > MOST_EPOCHS:
            message = f"makes {length * epochs:,.0f} epochs"
            yield refusal(message, f"at most {MOST_EPOCHS:,}", ("dense_lengths", index))
    if lengths and chosen:
        message = "are multiples of `training.epochs`, but every method chooses its `epochs`"
        yield refusal(message, "remove one of them", ("dense_lengths",))


def combinations(fields: Mapping[str, Sequence[Any]], training: Any) -> tuple[dict[str, Any], ...]:
    """Return the combinations of the fields' values, as a recipe has them, in order; empty without fields."""
    if not fields or math.prod(map(len, fields.values())) > MOST_RECIPES:
        return ()
    written = (dict(zip(fields, values, strict=True)) for values in product(*fields.values()))
    recipes = (type(training).model_validate({**training.model_dump(), **one}) for one in written)
    return tuple({name: getattr(recipe, name) for name in fields} for recipe in recipes)


def listed(value: Any) -> Any:
    """Wrap a single value in a tuple, where a spec expects a list."""
    return value if isinstance(value, list | tuple) else (value,)


Seed = Annotated[int, Ge(0), Lt(2**63)]
Seeds = Annotated[
    tuple[Annotated[Seed, WrapValidator(go_on)], ...],
    MinLen(1),
    Different(),
    BeforeValidator(listed, json_schema_input_type=Seed | Annotated[tuple[Seed, ...], MinLen(1)]),
]
