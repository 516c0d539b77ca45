"""YAML text -> plain data and the position of every value in it; nothing is guessed and nothing is executed.

YAML 1.2's scalars: `1e-3` is a number, `NO` is a text. Rejected with their position: duplicate keys, anchors,
aliases, tags, merges, keys that are no words, numbers that are not finite. The reader notes these and goes on; it stops
at a text that is not YAML, a second document, texts over 1 MiB and nesting over 64.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import yaml

from autosparse.errors import Problem, SpecError

METHODS = "methods"
"""The key of the methods in `compare: {methods: [...], lr: [...]}`."""

Path: TypeAlias = "tuple[str | int, ...]"

LARGEST, _DEEPEST, _MOST_VALUES, _MOST_PROBLEMS = 2**20, 64, 100_000, 100
_BITS = 1024  # of the smallest whole number above all floats
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True)
class Mark:
    """The source of a value: a file's name with line and column from 1, or a command's option."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name

    def problem(self, text: str, hint: str | None = None) -> Problem:
        """Return a mistake at this position."""
        return Problem(text, hint, self.name, self.line, self.column)


@dataclass(frozen=True, eq=False)
class Rejected:
    """Value that is wrong or cannot be read; `problems` lists its mistakes, in the form of pydantic's errors."""

    problems: tuple[Any, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        return self.text


class Incomplete(dict[str, Any]):
    """Mapping that may lack keys, because a part of its text is rejected."""


@dataclass(frozen=True)
class Repeated:
    """Second value of a key: its path and the document below it."""

    path: Path
    document: Document


@dataclass(frozen=True)
class Document:
    """Plain data, and for every path in it the mark of its value and of its key.

    `problems` lists what the reader rejects, `repeated` the values of keys that are written twice.
    """

    data: Any
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list, compare=False)
    repeated: list[Repeated] = field(default_factory=list, compare=False)

    def nearest(self, path: Path) -> Mark | None:
        """Return the mark of the deepest value on the way to `path`."""
        for length in range(len(path), -1, -1):
            if mark := self.values.get(path[:length]):
                return mark
        return None

    def written(self, path: Path) -> Path:
        """Return the path of a value as it is written: in `compare: {methods: [...], lr: [...]}`, or unchanged."""
        if isinstance(self.data, dict) and isinstance(self.data.get("compare"), dict):
            if path[:1] == ("compare",) and path[1:2] != (METHODS,):
                return ("compare", METHODS, *path[1:])
            if path[:1] == ("per_method",):
                return ("compare", *path[1:])
        return path

    def at(self, path: Path) -> Any:
        """Return the value at a path, or None."""
        data = self.data
        for key in path:
            if isinstance(data, list) and isinstance(key, int):
                data = data[key] if key < len(data) else None
            else:
                data = data.get(key) if isinstance(data, dict) else None
        return data


def parse_document(text: str, name: str, *, has_lines: bool = True) -> Document:
    """Read one YAML document. Raises SpecError with `name:line:column` where the reader cannot go on.

    The text of a command's option has neither lines nor columns.
    """
    reader = _Reader(name, text, has_lines=has_lines)
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise SpecError(reader.last.problem(f"the file is larger than {LARGEST // 2**20} MiB", "is it a spec?"))
    try:
        return reader.document()
    except _Stopped as stopped:
        last = stopped.problem
    except yaml.MarkedYAMLError as error:
        mark = reader.mark(error.problem_mark or error.context_mark)
        problem = error.problem or error.context or "the text is not YAML"
        last = mark.problem(problem, _yaml_hint(problem, error, has_lines=has_lines))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = reader.at(before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        last = mark.problem(f"character {error.character!r} is not allowed in YAML")
    except (ValueError, OverflowError) as error:  # PyYAML trusts numbers in escapes and directives
        last = reader.last.problem(f"the text cannot be read ({error})")
    raise SpecError.listing([*reader.problems, last])


def parse_value(text: str, name: str) -> Any:
    """Read the YAML value of an option. Raises SpecError."""
    document = parse_document(text, name, has_lines=False)
    if document.problems:
        raise SpecError.listing(document.problems)
    return document.data


def _yaml_hint(problem: str, error: Any, *, has_lines: bool) -> str | None:
    if "<stream end>" in problem or "end of stream" in problem:
        opened = error.context_mark and re.search("flow (mapping|sequence)|quoted scalar", error.context or "")
        where = f" that opens at line {error.context_mark.line + 1}" if opened and has_lines else ""
        return f"a bracket or quote{where} is not closed"
    if "\\t" in problem:
        return "indent with spaces"
    if problem == "mapping values are not allowed here":
        return "put a text with `: ` into quotes, or correct the indentation"
    return None


def plain_values(value: Any) -> Any:
    """Convert a value to plain Python data, as a YAML file would hold it.

    Args:
        value: Any value; mappings, tuples and lists are converted inside.

    Returns:
        The value with numpy and torch numbers as Python's, arrays and tensors as lists, and paths as strings.

    Examples:
        >>> import pathlib, torch
        >>> plain_values({"rounds": torch.tensor(3), "path": pathlib.Path("runs")})
        {'rounds': 3, 'path': 'runs'}
    """
    if isinstance(value, Mapping):
        return {plain_values(key): plain_values(inner) for key, inner in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(plain_values, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(value, "tolist"):
        return value.tolist()  # numpy numbers and arrays, and tensors
    return value


def texts(data: Any, path: Path = (), holder: Any = None) -> Iterator[tuple[Path, str, Any]]:
    """Yield every text in plain data: its path, itself, and the container in which a caller may replace it."""
    if isinstance(data, str):
        yield path, data, holder
    elif isinstance(data, dict | list):
        for key, inner in list(data.items() if isinstance(data, dict) else enumerate(data)):
            yield from texts(inner, (*path, key), data)


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of every leaf of nested mappings; an empty mapping is a leaf."""
    if isinstance(data, Mapping) and data:
        for key, inner in data.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, data


def parse_scalar(text: str) -> Any:
    """Parse a plain scalar by YAML 1.2's core schema; a number that is not finite becomes a Rejected."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return number if number.bit_length() < _BITS else Rejected(text=text[:40])
    if _FLOAT.fullmatch(text) and not math.isinf(float(text)):
        return float(text)
    if _NOT_FINITE.fullmatch(text) or _FLOAT.fullmatch(text):
        return Rejected(text=text[:40])
    return text


class _Stopped(Exception):
    """End of reading at a mistake."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reader:
    def __init__(self, name: str, text: str, *, has_lines: bool) -> None:
        self._name, self._has_lines = name, has_lines
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._count = 0
        self.last = self.at(1, 1)
        self._document = Document(None)
        self.problems = self._document.problems

    def mark(self, mark: Any) -> Mark:
        return self.at(mark.line + 1, mark.column + 1) if mark else self.at(1, 1)

    def at(self, line: int, column: int) -> Mark:
        return Mark(self._name, line, column) if self._has_lines else Mark(self._name)

    def document(self) -> Document:
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Document({}, {(): self.at(1, 1)})
        data = self._value(self._next(), (), 0)
        self._next()  # document end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._stop(after, "a second document begins here", "a spec is one document")
        return replace(self._document, data=data)

    def _next(self) -> Any:
        self._count += 1
        event = next(self._events)
        self.last = self.mark(event.end_mark)
        if self._count > _MOST_VALUES:
            raise self._stop(event, f"the file holds more than {_MOST_VALUES} values", "is it a spec?")
        return event

    def _stop(self, event: Any, rule: str, hint: str | None = None) -> _Stopped:
        return _Stopped(self.mark(event.start_mark).problem(rule, hint))

    def _note(self, event: Any, rule: str, hint: str | None = None) -> None:
        self.problems.append(self.mark(event.start_mark).problem(rule, hint))
        if len(self.problems) >= _MOST_PROBLEMS:
            raise self._stop(event, f"more than {_MOST_PROBLEMS - 1} mistakes: the reader stops here", "is it a spec?")

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        mark = self.mark(event.start_mark)
        self._document.values[path] = mark
        if isinstance(event, yaml.AliasEvent):
            self._note(event, f"aliases (`*{event.anchor}`) are not allowed", "write the value out")
            return Rejected(text=f"*{event.anchor}")
        if event.anchor:
            self._note(event, f"anchors (`&{event.anchor}`) are not allowed", "share a base by `extends:`")
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")  # as it is written
            self._note(event, f"tags (`{tag}`) are not allowed", "write a plain value")
        if depth > _DEEPEST:
            raise self._stop(event, f"values are nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.ScalarEvent):
            return Rejected(text=event.value[:40]) if event.tag else self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(item, (*path, len(items)), depth + 1))
            return items
        return self._mapping(path, depth)

    def _scalar(self, event: Any) -> Any:
        text = self._text(event)
        value = parse_scalar(text) if event.implicit[0] else text
        if isinstance(value, Rejected):
            fault = "is not a finite number" if _NOT_FINITE.fullmatch(text) else "is too large"
            self._note(event, f"{value} {fault}")
        return value

    def _text(self, event: Any) -> str:
        # JSON writes characters beyond U+FFFF as two escapes, which PyYAML leaves apart.
        try:
            return str(event.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self._stop(event, "the text holds half of a surrogate pair") from None

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag or event.anchor:
                self._note(event, "a key must be a plain word")
                self._skip(event, depth)
            elif (key := self._text(event)) == "<<":
                self._note(event, "merge keys (`<<`) are not allowed", "share a base by `extends:`")
            elif key in mapping:
                first = self._document.keys[(*path, key)]
                where = f" (first at line {first.line})" if first.line else ""
                self._note(event, f"key `{key}` is repeated{where}", "keep one of them")
                self._repeat((*path, key), depth)
                continue
            else:
                self._document.keys[(*path, key)] = self.mark(event.start_mark)
                mapping[key] = self._value(self._next(), (*path, key), depth + 1)
                continue
            self._skip(self._next(), depth)
            mapping = Incomplete(mapping)
        return mapping

    def _repeat(self, path: Path, depth: int) -> None:
        # The second value of a key: checked later in place of the first.
        first, self._document = self._document, Document(None, problems=self.problems, repeated=self._document.repeated)
        data = self._value(self._next(), path, depth + 1)
        first.repeated.append(Repeated(path, replace(self._document, data=data)))
        self._document = first

    def _skip(self, event: Any, depth: int) -> None:
        # A part of the text that has no meaning, whose mistakes do not matter.
        first, self._document = self._document, Document(None)
        noted, self.problems = self.problems, []
        self._value(event, (), depth + 1)
        self._document, self.problems = first, noted
