"""Section of a spec: a frozen model that checks every field and every rule, and goes on after a mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from autosparse.registry import nearest
from autosparse.spec.diagnostics import UNREAD, Details, details_of, refusal
from autosparse.spec.document import Incomplete, Rejected

Rule = Callable[[], Iterable[PydanticCustomError]]

GO_ON = object()
"""Context of a validation that reports all mistakes: a wrong value becomes a Rejected and the rest is checked."""


class Different:
    """Mark of a list whose values must differ; the section reports every duplicate among the readable ones."""


class UndecidedError(Exception):
    """Rule that reads a rejected value, so that nothing can be said about it."""


def go_on(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Return the validated value; under GO_ON a Rejected in place of a wrong one."""
    if info.context is not GO_ON:
        return handler(value)
    if isinstance(value, Rejected):
        return value
    try:
        return handler(value)
    except ValidationError as error:
        return Rejected(tuple(error.errors(include_url=False)))


class Section(BaseModel):
    """Frozen section of a spec that rejects unknown keys.

    Under GO_ON validation returns a section even for wrong data. It then lacks the wrong fields: reading one raises
    UndecidedError, which skips the rule that reads it. `problems` lists all mistakes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    unknown: ClassVar[str | None] = None
    """hint for every unknown key, in place of the known keys"""
    _problems: tuple[Details, ...] = PrivateAttr(default=())
    _is_whole: bool = PrivateAttr(default=True)

    @property
    def problems(self) -> tuple[Details, ...]:
        """The mistakes in the data of this section, in the form of pydantic's errors."""
        return self._problems

    @classmethod
    def expanded(cls, value: Any) -> Any:
        """Return the mapping that a short form stands for, such as the name of a preset."""
        return value

    @classmethod
    def without_short_form(cls, value: Any) -> Mapping[str, Any] | None:
        """Return the part of a mapping that can be read although its short form is wrong, or None."""
        return None

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that a spec may write in the section."""
        return [*cls.model_fields]

    @classmethod
    def unread(cls, meant: set[str]) -> set[str]:
        """Return the fields without a known value if these keys are misspelt."""
        return meant

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules over several fields; each yields the refusals of the values that break it."""
        return ()

    @field_validator("*", mode="wrap")
    @classmethod
    def _field(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        return go_on(value, handler, info)

    @model_validator(mode="wrap")
    @classmethod
    def _section(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Self:
        goes_on, is_incomplete = info.context is GO_ON, isinstance(value, Incomplete)
        problems: list[Details] = []
        try:
            value = cls.expanded(value)
        except PydanticCustomError as error:
            rest = cls.without_short_form(value) if goes_on else None
            if rest is None:
                raise
            problems, value, is_incomplete = [details_of(error)], rest, True
        if isinstance(value, Mapping) and cls.model_config.get("extra") == "forbid":
            unknown = [details_of(cls._unknown(key)) for key in value if key not in cls.model_fields]
            if unknown and not goes_on:
                raise cls._unknown(unknown[0]["loc"][0])
            problems += unknown
            value = {key: inner for key, inner in value.items() if key in cls.model_fields}
        if goes_on and isinstance(value, Mapping):
            meant = {near for problem in problems if (near := nearest(str(problem["loc"][0]), cls.keys()))}
            value = {**value, **cls._absent(value, set(cls.model_fields) if is_incomplete else cls.unread(meant))}
        section: Self = handler(value)
        if goes_on:
            inside = [*section._rejected()]
            section._problems = (*problems, *inside, *section._broken())
            section._is_whole = section._is_whole and not section._problems
            return section
        for rule in (section._different, *section.rules()):
            for broken in rule():
                raise broken
        return section

    @classmethod
    def _unknown(cls, key: Any) -> PydanticCustomError:
        known = cls.keys()
        near = nearest(str(key), known)
        hint = cls.unknown or (f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}")
        return PydanticCustomError("unknown_key", "unknown key `{key}`", {"at": (key,), "key": str(key), "hint": hint})

    @classmethod
    def _absent(cls, value: Mapping[str, Any], unread: set[str]) -> dict[str, Rejected]:
        # Fields that are written where they cannot be read, such as under a misspelt key, and required ones.
        absent = {name: field for name, field in cls.model_fields.items() if name not in value}
        missing: Details = {"type": "missing", "loc": (), "msg": "", "input": None, "ctx": {}}
        rejected = {name: Rejected((missing,)) for name, field in absent.items() if field.is_required()}
        return rejected | {name: Rejected() for name in absent if name in unread}

    def _rejected(self) -> Iterator[Details]:
        # The problems inside the fields; a field without a usable value is removed.
        for name in type(self).model_fields:
            value = self.__dict__[name]
            yield from _inside(value, (name,))
            self._is_whole = self._is_whole and _whole(value)
        yield from map(details_of, self._different())
        for name in type(self).model_fields:
            value = self.__dict__[name]
            if _is_rejected(value):
                del self.__dict__[name]

    def _different(self) -> Iterator[PydanticCustomError]:
        for name, field in type(self).model_fields.items():
            values = self.__dict__[name]
            if isinstance(values, tuple) and any(isinstance(each, Different) for each in field.metadata):
                for index in _repeated(values):
                    text = getattr(values[index], "name", values[index])
                    yield refusal(f"repeats {text}", "name it once", (name, index))

    def _broken(self) -> Iterator[Details]:
        # What the rules refuse; none is checked that reads a rejected value.
        for rule in self.rules():
            try:
                yield from map(details_of, rule())
            except UndecidedError:
                continue
            except ValidationError as error:
                yield from error.errors(include_url=False)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise UndecidedError for a field whose value is rejected."""
            if name in type(self).model_fields:
                raise UndecidedError(name)
            return super().__getattr__(name)

    def __eq__(self, other: object) -> bool:
        """Compare fields. Raises UndecidedError if either section lacks some."""
        if not (self._is_whole and _whole(other)):
            raise UndecidedError
        return super().__eq__(other)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return plain data. Raises UndecidedError if the section lacks fields."""
        if not self._is_whole:
            raise UndecidedError
        return super().model_dump(**options)


Checked = TypeVar("Checked", bound=Section)


def checked(section: type[Checked], data: Any) -> Checked:
    """Validate all of the data; the section's `problems` list every mistake."""
    # Strict: 1 is a float where one is due, but "1" and true are not numbers. Strict lists are tuples.
    return section.model_validate(data, strict=True, context=GO_ON)


def _repeated(values: tuple[Any, ...]) -> Iterator[int]:
    # The numbers of the readable values that an earlier one equals. Plain values are looked up: a list may be long.
    seen: set[Any] = set()
    others: list[Any] = []
    for index, value in enumerate(values):
        is_plain = isinstance(value, str | int | float)
        if not _whole(value):
            continue
        if value in (seen if is_plain else others):
            yield index
        elif is_plain:
            seen.add(value)
        else:
            others.append(value)


def _inside(value: Any, loc: tuple[str | int, ...]) -> Iterator[Details]:
    problems: Iterable[Details] = ()
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _inside(item, (*loc, index))
    elif isinstance(value, Rejected | Section):
        problems = value.problems
    yield from ({**problem, "loc": (*loc, *problem["loc"])} for problem in problems if problem["type"] != UNREAD)


def _whole(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_whole, value))
    return value._is_whole if isinstance(value, Section) else not isinstance(value, Rejected)


def _is_rejected(value: Any) -> bool:
    return isinstance(value, Rejected) or (isinstance(value, tuple) and any(map(_is_rejected, value)))
