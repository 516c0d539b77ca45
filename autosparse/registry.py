"""Registries of the names in YAML: a decorated function is a choice, its keyword-only arguments are the options.

Types, defaults, ranges to tune and one-line help of an option live in the signature and nowhere else:

    @criteria.register
    def grasp(evidence, *, temperature: Annotated[float, Gt(0), "divisor of the logits"] = 200.0): ...
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar, overload

from autosparse.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
_ABSENT = inspect.Parameter.empty
_SECTION = re.compile(r"^(Args|Returns|Raises|Examples|References):$", re.MULTILINE)


@dataclass(frozen=True)
class Range:
    """Interval of an option's values in tuning.

    Attributes:
        low: Lowest value, included.
        high: Highest value, included.
        log: Whether trials sample on a logarithmic scale.
        when_named: Whether tuning includes the option only if the spec's `tuning.options` names it.

    Examples:
        >>> 0.05 in Range(0.01, 1, log=True)
        True
    """

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
    """Candidate values of an option in tuning.

    Attributes:
        values: Values that trials choose from.
        when_named: Whether tuning includes the option only if the spec's `tuning.options` names it.

    Examples:
        >>> print(OneOf(("igq", "erk")))
        igq, erk
    """

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
class Added:
    """Marker of an option that keys leave out at its default, which is how the function worked without the option."""


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

    @property
    def is_added(self) -> bool:
        """True if keys leave the option out at its default."""
        return any(isinstance(item, Added) for item in self.metadata)

    @property
    def mapping(self) -> Callable[..., Any] | None:
        """Dataclass whose fields a spec may write as a mapping in place of a plain value."""
        members = typing.get_args(typing.get_args(self.annotation)[0]) if self.metadata else ()
        return next((one for one in members if isinstance(one, type) and is_dataclass(one)), None)


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the options of a function or dataclass: its keyword-only arguments, with resolved types.

    Args:
        function: Function or dataclass; only the annotations of its keyword-only arguments are evaluated.

    Returns:
        Options by name, in the order of the signature.

    Examples:
        >>> def noise(evidence, *, scale: float = 1.0): ...
        >>> options_of(noise)["scale"].default
        1.0
    """
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
        """Split option values into the function's and the shared ones.

        Args:
            values: Option values by name.

        Returns:
            The values that the function takes, and those of the shared options of its kind.
        """
        specific = {name: value for name, value in values.items() if name not in self.shared}
        return specific, {name: value for name, value in values.items() if name in self.shared}

    @property
    def help(self) -> str:
        """First line of the docstring."""
        return self.description.partition("\n")[0]

    @property
    def description(self) -> str:
        """Docstring without its sections, such as `Args`: the text of the JSON Schema."""
        text = inspect.getdoc(getattr(self.function, "func", self.function)) or ""
        return _SECTION.split(text, maxsplit=1)[0].rstrip()


class Registry(Generic[Function]):
    """Choices of one kind, by name, in order of registration.

    Args:
        kind: Noun for one choice in messages, such as `criterion`.
        plural: Plural of the noun, the KIND of `autosparse list KIND`.
        shared: Dataclass whose fields are options of every choice; a registration with a fact of the same name changes
            the default.
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
        """Register a function as a choice in YAML: a decorator, with or without arguments.

        The positional parameters of the function are its inputs, its keyword-only parameters the options in YAML, and
        the first line of its docstring the help text.

        Args:
            function: Function to register, if the decorator is used without arguments.
            name: Name in YAML, by default the function's.
            version: Version of the results, part of every cache key: raise it when results for equal options change.
            pattern: Regular expression of the names that the function stands for, such as `timm:NAME`. The function
                takes the matched name first, and any options.
            **facts: Properties that the program reads without a call, such as `gradients=1`; the docstring of a
                registry's module lists them.

        Returns:
            The function itself; with arguments, the decorator.

        Raises:
            ValueError: If the name is registered already.

        Examples:
            >>> criteria = Registry("criterion", "criteria")
            >>> @criteria.register(gradients=0)
            ... def magnitude(evidence):
            ...     "Score by |w| at initialization."
            ...     return {name: weight.abs() for name, weight in evidence.initial.items()}
            >>> criteria.names, criteria["magnitude"].help
            (('magnitude',), 'Score by |w| at initialization.')
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
        """Return the entry of a name, or the first one with a matching pattern, bound to that name.

        Args:
            name: Name in YAML.

        Returns:
            The entry, or None without one; `registry[name]` raises UsageError instead.
        """
        entry = self._entries.get(name)
        if entry and entry.pattern is None:
            return entry
        if entry := self._entries.get(self.template(name) or ""):
            bound: Any = partial(entry.function, name)
            return replace(entry, name=name, function=bound)
        return None

    def template(self, name: str) -> str | None:
        """Return the registered name of a choice: its own, or that of the first matching pattern.

        Args:
            name: Name in YAML.

        Returns:
            The registered name, or None without one.
        """
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
        """Return the hint of an error about an unknown name.

        Args:
            name: Unknown name.

        Returns:
            The most similar name, or else the command that lists all names.
        """
        return suggestion(name, self.names) or f"run `autosparse list {self.plural}`"


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """Return `did you mean ...?` for a misspelt word.

    Args:
        word: Misspelt word.
        known: Words to choose from.

    Returns:
        The hint, or None if no known word is similar.

    Examples:
        >>> suggestion("sinp", ["snip", "grasp"])
        'did you mean `snip`?'
    """
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else None


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that a misspelt one resembles most.

    Args:
        word: Misspelt word.
        known: Words to choose from.

    Returns:
        The word, or None if no known word is similar.
    """
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)), None)
