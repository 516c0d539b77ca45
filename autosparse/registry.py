"""Registries of the names in YAML: a decorated function is a choice, its keyword-only arguments are the options.

Types, defaults, ranges to tune and one-line help of an option live in the signature and nowhere else:

    @criteria.register
    def grasp(evidence, *, temperature: Annotated[float, Gt(0), "divides the logits"] = 200.0): ...
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar, overload

from autosparse.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
_ABSENT = inspect.Parameter.empty


@dataclass(frozen=True)
class Range:
    """Interval of an option's values in tuning; with `when_named` only if a spec names the option."""

    low: float
    high: float
    log: bool = False
    when_named: bool = False

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class OneOf:
    """Candidate values of an option in tuning; with `when_named` only if a spec names the option."""

    values: tuple[Any, ...]
    when_named: bool = False

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class FilePath:
    """Marker of an option that names files, relative to its spec."""


@dataclass(frozen=True)
class Option:
    """Keyword-only argument as an option in YAML."""

    name: str
    annotation: Any
    default: Any
    metadata: tuple[Any, ...]

    @property
    def required(self) -> bool:
        return self.default is _ABSENT

    @property
    def help(self) -> str:
        return next((item for item in self.metadata if isinstance(item, str)), "")

    @property
    def tunable(self) -> Range | OneOf | None:
        return next((item for item in self.metadata if isinstance(item, Range | OneOf)), None)

    @property
    def is_tuned_unasked(self) -> bool:
        """True if tuning includes the option where no spec selects the options to tune."""
        return self.tunable is not None and not self.tunable.when_named

    @property
    def is_path(self) -> bool:
        return any(isinstance(item, FilePath) for item in self.metadata)


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the keyword-only arguments of a function or dataclass, in order, with resolved types."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    # Evaluate only these annotations: positional ones name torch types, and would import torch.
    holder = type("holder", (), {"__annotations__": {p.name: p.annotation for p in parameters}})
    types = typing.get_type_hints(holder, globalns=vars(sys.modules[function.__module__]), include_extras=True)
    return {
        p.name: Option(p.name, types[p.name], p.default, getattr(types[p.name], "__metadata__", ())) for p in parameters
    }


@dataclass(frozen=True)
class Entry(Generic[Function]):
    """Registered function and the facts of its registration."""

    name: str
    function: Function
    version: int
    facts: Mapping[str, Any]
    pattern: str | None = None
    """pattern of the names that the entry stands for; it takes any options"""
    shared: Mapping[str, Option] = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, Option]:
        """Options of the function, then the shared options of its kind."""
        shared = {
            name: replace(option, default=self.facts[name]) if name in self.facts else option
            for name, option in self.shared.items()
        }
        return {**({} if self.pattern else options_of(self.function)), **shared}

    def apart(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split option values into the function's and the shared ones."""
        specific = {name: value for name, value in values.items() if name not in self.shared}
        return specific, {name: value for name, value in values.items() if name in self.shared}

    @property
    def help(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(getattr(self.function, "func", self.function)) or "").partition("\n")[0]


class Registry(Generic[Function]):
    """Choices of one kind, by name, in order of registration.

    `shared` is a dataclass whose fields are options of every choice; a registration that states a fact of the same name
    changes the default.
    """

    def __init__(self, kind: str, plural: str, shared: Callable[..., Any] | None = None) -> None:
        self.kind = kind
        self.plural = plural
        self.shared = shared
        self._entries: dict[str, Entry[Function]] = {}

    @overload
    def register(self, function: Function, /) -> Function: ...
    @overload
    def register(
        self, /, *, name: str | None = ..., version: int = ..., pattern: str | None = ..., **facts: Any
    ) -> Callable[[Function], Function]: ...
    def register(
        self,
        function: Function | None = None,
        /,
        *,
        name: str | None = None,
        version: int = 1,
        pattern: str | None = None,
        **facts: Any,
    ) -> Any:
        """Register a function for YAML, under its own name unless `name` is given.

        Raise `version` when the function's results for the same options change; `facts` are properties that the program
        needs without a call. A function with a `pattern` stands for every name that matches it; it takes that name
        first, and any options.
        """

        def add(function: Function) -> Function:
            shared = options_of(self.shared) if self.shared else {}
            entry = Entry(name or function.__name__, function, version, facts, pattern, shared)
            if entry.name in self._entries:
                raise ValueError(f"{self.kind} {entry.name!r} is registered twice")
            self._entries[entry.name] = entry
            return function

        return add if function is None else add(function)

    def __getitem__(self, name: str) -> Entry[Function]:
        if entry := self.find(name):
            return entry
        raise UsageError(f"there is no {self.kind} `{name}`", self.suggest(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def find(self, name: str) -> Entry[Function] | None:
        """Return the entry of a name, or the first one with a matching pattern, bound to that name."""
        entry = self._entries.get(name)
        if entry and entry.pattern is None:
            return entry
        if entry := self._entries.get(self.template(name) or ""):
            bound: Any = partial(entry.function, name)
            return replace(entry, name=name, function=bound)
        return None

    def template(self, name: str) -> str | None:
        """Return the registered name behind `name`: itself, or that of the first matching pattern."""
        if (entry := self._entries.get(name)) and entry.pattern is None:
            return name
        matching = (e.name for e in self._entries.values() if e.pattern and re.fullmatch(e.pattern, name))
        return next(matching, None)

    def __iter__(self) -> Iterator[Entry[Function]]:
        return iter(self._entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of single choices; an entry with a pattern stands for many names and has none."""
        return tuple(name for name, entry in self._entries.items() if entry.pattern is None)

    def suggest(self, name: str) -> str:
        """Return a hint with the likely name in place of an unknown one."""
        return suggestion(name, self.names) or f"run `autosparse list {self.plural}`"


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """Return `did you mean ...?` for a misspelt word, or None without a similar one."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else None


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that a misspelt one resembles most, or None without a similar one."""
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)), None)
