"""Mistakes of a spec as sentences: position, value, rule, and a hint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_core import PydanticCustomError

from autosparse.errors import InvalidValue, Problem, SpecError
from autosparse.registry import suggestion
from autosparse.spec.document import Document, Mark, Path, Rejected, parse_scalar

Details = Any
"""A mistake in the form of pydantic's errors: type, location, input and context."""

UNREAD = "unread"
"""Type of a mistake that another one explains: it is not reported."""

_RULES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "mapping_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "greater_than": "must be above {gt:.12g}",
    "greater_than_equal": "must be at least {ge:.12g}",
    "less_than": "must be below {lt:.12g}",
    "less_than_equal": "must be at most {le:.12g}",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must match `{pattern}`",
    "too_short": "must have at least {min_length} value",
    "too_long": "must have at most {max_length} values",
}
_WRONG_TYPES = ("int_type", "float_type", "bool_type", "string_type", "tuple_type", "list_type")


def refusal(message: str, hint: str | None = None, at: Path = ()) -> PydanticCustomError:
    """Return the error of a validator that rejects a value, or the value at a path in it."""
    # The message is the last argument: pydantic then leaves braces in it, such as `{hint}`, unchanged.
    return PydanticCustomError("refused", "{message}", {"hint": hint, "at": at, "message": message})


def details_of(error: PydanticCustomError) -> Details:
    """Return a validator's error in the form of pydantic's errors; its path becomes the location."""
    context: Mapping[str, Any] = error.context or {}
    rest = {key: value for key, value in context.items() if key != "at"}
    return {"type": error.type, "loc": context["at"], "msg": error.message(), "input": None, "ctx": rest, "exact": True}


def explain(mistakes: Iterable[Details], document: Document) -> list[Problem]:
    """Return the mistakes of a spec as sentences with positions."""
    branches: dict[Path, list[Details]] = {}
    problems: dict[Problem, None] = {}
    for details in mistakes:
        context = details.get("ctx", {})
        # pydantic also reports a list with invalid items as too short: only an empty list is.
        if details["type"] == "too_short" and len(details["input"]) >= context["min_length"]:
            continue
        # A rule over several sections names the section that breaks it.
        loc = document.written((*details["loc"], *context.get("at", ())))
        path = _path(loc, document.data, details)
        # The value of an unknown key does not matter: it may be rejected.
        if _is_read(path[:-1] if details["type"] == "unknown_key" else path, document):
            branches.setdefault(path, []).append(details)
    for path, several in branches.items():
        # Rules are independent of each other; the members of a union are not, and report one mistake each.
        rules = [details for details in several if details["type"] == "refused"]
        for details in rules or [_of_union(several)]:
            mark, text, hint = _sentence(details, path, document)
            problems[problem_at(mark, text, hint, path)] = None
    return [*problems]


def problem_at(mark: Mark, text: str, hint: str | None = None, path: Path = ()) -> Problem:
    """Return a mistake at the position of a mark."""
    return Problem(text, hint, mark.name, mark.line, mark.column, dotted(path))


def in_order(problems: Iterable[Problem], first: str, options: Sequence[str]) -> list[Problem]:
    """Return each mistake once: those of the file `first`, of other files, and of options, by position."""
    ranks = {option: rank for rank, option in enumerate(options, 1)}

    def position(problem: Problem) -> tuple[Any, ...]:
        return ranks.get(problem.file, 0), problem.file != first, problem.file, problem.line, problem.column

    return sorted(dict.fromkeys(problems), key=position)


@contextmanager
def located(document: Document) -> Iterator[None]:
    """Add file, line and column of its value to an InvalidValue raised inside, if the document contains the value."""
    try:
        yield
    except InvalidValue as error:
        path = document.written(tuple(int(part) if part.isdigit() else part for part in error.path.split(".")))
        if path[:1] in document.values and (mark := document.nearest(path)):
            raise SpecError(problem_at(mark, error.message, error.hint, path)) from error
        raise


def _of_union(several: list[Details]) -> Details:
    # The member that the value resembles: the first, but a number need not be whole, and words may stand for numbers.
    first = next((details for details in several if details["type"] != "literal_error"), several[0])
    numbers = [details for details in several if details["type"] == "float_type"]
    if first["type"] == "int_type" and numbers:
        first = numbers[0]
    words = [details for details in several if details["type"] == "literal_error"]
    if first["type"] in _WRONG_TYPES and words:
        return {**first, "ctx": {**first.get("ctx", {}), "words": words[0]["ctx"]["expected"]}}
    return first


def _sentence(details: Details, path: Path, document: Document) -> tuple[Mark, str, str | None]:
    context: Mapping[str, Any] = details.get("ctx", {})
    kind, name = details["type"], dotted(path)
    if kind == "unknown_key":
        mark = document.keys.get(path) or document.nearest(path) or Mark("spec")
        inside = f" in `{dotted(path[:-1])}`" if path[:-1] else ""
        return mark, f"unknown key `{context['key']}`{inside}", context["hint"]
    mark = document.nearest(path) or Mark("spec")
    subject = f"`{name}` " if name else "the spec "
    if kind == "missing":
        return mark, f"{subject}is required", context.get("hint")
    if kind in _RULES:
        rule = _RULES[kind].format(**context)
        words = f" or {context['words']}" if "words" in context else ""
        hint = _hint(kind, details["input"], context)
        return mark, f"{subject}{rule}{words} but is {_shown(details['input'])}", hint
    return mark, subject + details["msg"], context.get("hint")


def _hint(kind: str, value: Any, context: Mapping[str, Any]) -> str | None:
    expected = context.get("expected", context.get("words"))
    if expected and isinstance(value, str):
        words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        if meant := suggestion(value, words):
            return meant
    if kind == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return f"write {value:.0f}"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type"):
        return "write it without quotes" if not isinstance(parse_scalar(value), str | Rejected) else None
    return None


def _path(loc: Sequence[str | int], data: Any, details: Details) -> Path:
    # pydantic puts the tags of unions into the location. A step that the data lacks is a tag,
    # unless it is the last and names a missing value, or a rule names it.
    path: list[str | int] = []
    missing, exact = details["type"] == "missing", "exact" in details
    here = data
    for index, step in enumerate(loc):
        inside = step in here if isinstance(here, dict) else isinstance(here, list) and step in range(len(here))
        if inside:
            here = here[step]
            path.append(step)
        elif exact and isinstance(step, str):
            here = None
            path.append(step)
        elif missing and index == len(loc) - 1:
            path.append(step)
    return tuple(path)


def _is_read(path: Path, document: Document) -> bool:
    # False for a value that the file reader has rejected, or one in it.
    return not any(isinstance(document.at(path[:length]), Rejected) for length in range(len(path) + 1))


def dotted(path: Path) -> str:
    """Return a path as it is written, such as `compare[1].criterion`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
