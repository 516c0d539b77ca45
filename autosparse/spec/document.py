"""YAML text -> plain data and the position of every value in it; nothing is guessed and nothing is executed.

YAML 1.2's scalars: `1e-3` is a number, `NO` is a text. Rejected with their position: duplicate keys, anchors,
aliases, tags, merges, a second document, texts over 1 MiB, nesting over 64, numbers that are not finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from autosparse.errors import SpecError

Path: TypeAlias = "tuple[str | int, ...]"

_LARGEST, _DEEPEST, _MOST_VALUES = 2**20, 64, 100_000
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


@dataclass(frozen=True)
class Document:
    """Plain data, and for every path in it the mark of its value and of its key."""

    data: Any
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)

    def nearest(self, path: Path) -> Mark | None:
        """Return the mark of the deepest value on the way to `path`."""
        for length in range(len(path), -1, -1):
            if mark := self.values.get(path[:length]):
                return mark
        return None

    def at(self, path: Path) -> Any:
        """Return the value at a path, or None."""
        data = self.data
        for key in path:
            if isinstance(data, list) and isinstance(key, int):
                data = data[key] if key < len(data) else None
            else:
                data = data.get(key) if isinstance(data, dict) else None
        return data


def parse_document(text: str, name: str) -> Document:
    """Read one YAML document. Raises SpecError with `name:line:column`."""
    if len(text.encode("utf-8", "surrogatepass")) > _LARGEST:
        raise SpecError(f"{name}:1:1: the file is larger than {_LARGEST // 2**20} MiB", "is it a spec?")
    reader = _Reader(name, text)
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        mark = reader.mark(error.problem_mark or error.context_mark)
        problem = error.problem or error.context or "the text is not YAML"
        hint = "indent with spaces" if "\\t" in problem else None
        raise SpecError(f"{mark}: {problem}", hint) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(name, before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        raise SpecError(f"{mark}: character {error.character!r} is not allowed in YAML") from None
    except (ValueError, OverflowError) as error:  # PyYAML trusts numbers in escapes and directives
        raise SpecError(f"{reader.last}: the text cannot be read ({error})") from None


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


def parse_scalar(text: str, mark: Mark) -> Any:
    """Parse a plain scalar by YAML 1.2's core schema. Raises SpecError on a number that is not finite."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and not math.isinf(float(text)):
        return float(text)
    if _NOT_FINITE.fullmatch(text) or _FLOAT.fullmatch(text):
        raise SpecError(f"{mark}: {text[:40]} is not a finite number")
    return text


class _Reader:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._count = 0
        self.last = Mark(name, 1, 1)
        self._document = Document(None)

    def mark(self, mark: Any) -> Mark:
        return Mark(self._name, mark.line + 1, mark.column + 1) if mark else Mark(self._name, 1, 1)

    def document(self) -> Document:
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Document({}, {(): Mark(self._name, 1, 1)})
        data = self._value(self._next(), (), 0)
        self._next()  # document end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            raise SpecError(f"{self.mark(after.start_mark)}: a second document begins here", "a spec is one document")
        return Document(data, self._document.values, self._document.keys)

    def _next(self) -> Any:
        self._count += 1
        event = next(self._events)
        self.last = self.mark(event.end_mark)
        if self._count > _MOST_VALUES:
            raise self._refuse(event, f"the file holds more than {_MOST_VALUES} values", "is it a spec?")
        return event

    def _refuse(self, event: Any, rule: str, hint: str | None = None) -> SpecError:
        return SpecError(f"{self.mark(event.start_mark)}: {rule}", hint)

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        mark = self.mark(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, f"aliases (`*{event.anchor}`) are not allowed", "write the value out")
        if event.anchor:
            raise self._refuse(event, f"anchors (`&{event.anchor}`) are not allowed", "share a base by `extends:`")
        if event.tag:
            raise self._refuse(event, f"tags (`{event.tag}`) are not allowed", "write a plain value")
        if depth > _DEEPEST:
            raise self._refuse(event, f"values are nested more than {_DEEPEST} deep")
        self._document.values[path] = mark
        if isinstance(event, yaml.ScalarEvent):
            text = self._text(event)
            return parse_scalar(text, mark) if event.implicit[0] else text
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(item, (*path, len(items)), depth + 1))
            return items
        return self._mapping(path, depth)

    def _text(self, event: Any) -> str:
        # JSON writes characters beyond U+FFFF as two escapes, which PyYAML leaves apart.
        try:
            return str(event.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self._refuse(event, "the text holds half of a surrogate pair") from None

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag or event.anchor:
                raise self._refuse(event, "a key must be a plain word")
            key = self._text(event)
            if key == "<<":
                raise self._refuse(event, "merge keys (`<<`) are not allowed", "share a base by `extends:`")
            if key in mapping:
                first = self._document.keys[(*path, key)]
                raise self._refuse(event, f"key `{key}` is repeated (first at line {first.line})", "keep one of them")
            self._document.keys[(*path, key)] = self.mark(event.start_mark)
            mapping[key] = self._value(self._next(), (*path, key), depth + 1)
        return mapping
