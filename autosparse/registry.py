"""What YAML can name: a decorated function is a choice, its keyword-only arguments are the options.

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
    """The interval in which tuning looks for an option's value, with `when_named` only if a spec names the option."""

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
    """The values among which tuning chooses, with `when_named` only if a spec names the option."""

    values: tuple[Any, ...]
    when_named: bool = False

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class FilePath:
    """Marks an option that names files: relative to the spec that says so."""


@dataclass(frozen=True)
class Option:
    """One keyword-only argument as YAML sees it."""

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
        """Whether tuning looks for a value where no spec says which options to tune."""
        return self.tunable is not None and not self.tunable.when_named

    @property
    def is_path(self) -> bool:
        return any(isinstance(item, FilePath) for item in self.metadata)


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only arguments of a function or dataclass, in order, with their types resolved."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    # Only these annotations are evaluated: the positional ones name torch types, and would import torch.
    holder = type("holder", (), {"__annotations__": {p.name: p.annotation for p in parameters}})
    types = typing.get_type_hints(holder, globalns=vars(sys.modules[function.__module__]), include_extras=True)
    return {
        p.name: Option(p.name, types[p.name], p.default, getattr(types[p.name], "__metadata__", ())) for p in parameters
    }


@dataclass(frozen=True)
class Entry(Generic[Function]):
    """A registered function and the facts its registration stated."""

    name: str
    function: Function
    version: int
    facts: Mapping[str, Any]
    pattern: str | None = None
    """what the names look like that this entry stands for; it takes any options"""
    shared: Mapping[str, Option] = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, Option]:
        """The function's own options, then those that all choices of the kind share."""
        shared = {
            name: replace(option, default=self.facts[name]) if name in self.facts else option
            for name, option in self.shared.items()
        }
        return {**({} if self.pattern else options_of(self.function)), **shared}

    def apart(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of options, split into the function's own and the shared ones."""
        specific = {name: value for name, value in values.items() if name not in self.shared}
        return specific, {name: value for name, value in values.items() if name in self.shared}

    @property
    def help(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(getattr(self.function, "func", self.function)) or "").partition("\n")[0]


class Registry(Generic[Function]):
    """The choices of one kind, by name, in the order they were registered.

    `shared` is a dataclass whose fields are options of every choice; a registration that states a fact of
    the same name changes the default.
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
        """Make a function available in YAML, under its own name unless `name` is given.

        `version` is raised when what the function gives for the same options changes; `facts` are
        what the program must know of a choice without calling it. With a `pattern` the function stands
        for every name that matches it, takes that name first, and any options.
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
        """The entry of a name, or the first whose pattern it matches, bound to that name."""
        entry = self._entries.get(name)
        if entry and entry.pattern is None:
            return entry
        if entry := self._entries.get(self.template(name) or ""):
            bound: Any = partial(entry.function, name)
            return replace(entry, name=name, function=bound)
        return None

    def template(self, name: str) -> str | None:
        """The name under which what `name` means was registered: its own, or that of the first matching pattern."""
        if (entry := self._entries.get(name)) and entry.pattern is None:
            return name
        matching = (e.name for e in self._entries.values() if e.pattern and re.fullmatch(e.pattern, name))
        return next(matching, None)

    def __iter__(self) -> Iterator[Entry[Function]]:
        return iter(self._entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is one choice; entries with a pattern stand for many and have none."""
        return tuple(name for name, entry in self._entries.items() if entry.pattern is None)

    def suggest(self, name: str) -> str:
        """What to write instead of an unknown name."""
        return suggestion(name, self.names) or f"run `autosparse list {self.plural}`"


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """`did you mean ...?` for a misspelt word, or None when nothing is near."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None
