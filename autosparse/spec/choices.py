"""Sections of a spec, built from signatures: registered functions and dataclasses become pydantic models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model, model_validator
from pydantic_core import PydanticCustomError

from autosparse.registry import Entry, Option, Registry, keyed, options_of, suggestion


class Section(BaseModel):
    """A frozen part of a spec that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = list(cls.model_fields)
            for key in value:
                if key not in known:
                    hint = suggestion(str(key), known) or f"known here: {', '.join(known)}"
                    raise PydanticCustomError("unknown_key", "unknown key `{key}`", {"key": str(key), "hint": hint})
        return value


class Choice(Section):
    """A registered function by name, with its options."""

    registry: ClassVar[Registry[Any]]
    name: str

    @property
    def entry(self) -> Entry[Any]:
        return self.registry[self.name]

    def options(self) -> dict[str, Any]:
        """Every option, defaults written out, as JSON values."""
        return self.model_dump(mode="json", exclude={"name"})

    def keyed(self) -> dict[str, Any]:
        """What of the choice enters a key."""
        return {
            "name": self.name,
            "version": self.entry.version,
            "options": keyed(self.entry.options, self.options()),
        }


def section_of(function: Callable[..., Any]) -> Any:
    """A Section with the keyword-only arguments of a dataclass as its fields."""
    return create_model(function.__name__, __base__=Section, __doc__=function.__doc__, **_fields(options_of(function)))


def choice_of(registry: Registry[Any]) -> Any:
    """The type of a field that names a registered function: `snip`, or `{name: snip, images: 512}`."""

    def spread(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError("choice", f"must be the name of {_a(registry.kind)}, or a mapping with `name`")
        name = value.get("name")
        if not isinstance(name, str) or name not in registry:
            hint = registry.suggest(str(name))
            if name is None:
                raise PydanticCustomError("no_name", f"needs the `name` of {_a(registry.kind)}", {"hint": hint})
            raise PydanticCustomError(
                "unknown_name", f"must be {_a(registry.kind)} but is {{got}}", {"got": repr(name), "hint": hint}
            )
        return value

    members = tuple(Annotated[_member(registry, entry), Tag(entry.name)] for entry in registry)
    union = Union[members] if len(members) > 1 else members[0]  # noqa: UP007  # built at run time
    chosen = Annotated[union, Field(discriminator=Discriminator(_name))] if len(members) > 1 else union
    return Annotated[
        chosen,
        BeforeValidator(spread, json_schema_input_type=Union[Literal[registry.names], union]),  # noqa: UP007
    ]


def _member(registry: Registry[Any], entry: Entry[Any]) -> type[Choice]:
    fields: dict[str, Any] = {"name": (Literal[entry.name], ...), **_fields(entry.options)}
    model = create_model(
        f"{registry.kind}_{entry.name}".replace(" ", "_"),
        __base__=Choice,
        __doc__=entry.function.__doc__,
        **fields,
    )
    model.registry = registry
    return model


def _fields(options: Mapping[str, Option]) -> dict[str, Any]:
    return {
        option.name: (
            Annotated[option.annotation, Field(description=option.help)],
            ... if option.required else option.default,
        )
        for option in options.values()
    }


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _name(value: Any) -> Any:
    return value["name"] if isinstance(value, Mapping) else value.name
