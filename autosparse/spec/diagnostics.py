"""A validation error as sentences: position, value, rule, and a hint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from autosparse.errors import InvalidValue, SpecError
from autosparse.registry import suggestion
from autosparse.spec.document import Document, Mark, Path, parse_scalar

_RULES = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} value",
}


def refusal(message: str, hint: str | None = None, at: Path = ()) -> PydanticCustomError:
    """Return the error of a validator that rejects a value, or the value at a path in it."""
    # The message is the last argument: pydantic then leaves braces in it, such as `{hint}`, unchanged.
    return PydanticCustomError("refused", "{message}", {"hint": hint, "at": at, "message": message})


def explain(error: ValidationError, document: Document) -> SpecError:
    """Return all problems of a spec, in the order of their positions, as one SpecError."""
    sentences: dict[Path, tuple[str, Mark, str, str | None]] = {}
    for problem in error.errors(include_url=False):
        context = problem.get("ctx", {})
        # pydantic also reports a list with invalid items as too short: only an empty list is.
        if problem["type"] == "too_short" and len(problem["input"]) >= context["min_length"]:
            continue
        # A rule over several sections names the section that breaks it.
        loc = (*problem["loc"], *context.get("at", ()))
        path = _path(loc, document.data, missing=problem["type"] == "missing")
        # A union reports one problem per member: the first suffices, but a number need not be whole.
        if path not in sentences or (sentences[path][0], problem["type"]) == ("int_type", "float_type"):
            sentences[path] = (problem["type"], *_sentence(problem, path, document))
    ordered = sorted(sentences.values(), key=lambda item: (item[1].line, item[1].column))
    return SpecError.of([(f"{mark}: {text}", hint) for _, mark, text, hint in ordered])


@contextmanager
def located(document: Document) -> Iterator[None]:
    """Add file, line and column of its value to an InvalidValue raised inside, if the document contains the value."""
    try:
        yield
    except InvalidValue as error:
        path = tuple(int(part) if part.isdigit() else part for part in error.path.split("."))
        if path[:1] in document.values and (mark := document.nearest(path)):
            raise SpecError(f"{mark}: {error.message}", error.hint) from error
        raise


def _sentence(problem: Any, path: Path, document: Document) -> tuple[Mark, str, str | None]:
    context: Mapping[str, Any] = problem.get("ctx", {})
    kind, name = problem["type"], _dotted(path)
    if kind == "unknown_key":
        key = (*path, context["key"])
        mark = document.keys.get(key) or document.nearest(path) or Mark("spec")
        inside = f" in `{name}`" if name else ""
        return mark, f"unknown key `{context['key']}`{inside}", context["hint"]
    mark = document.nearest(path) or Mark("spec")
    subject = f"`{name}` " if name else "the spec "
    if kind == "missing":
        return mark, f"{subject}is required", context.get("hint")
    if kind in _RULES:
        rule = _RULES[kind].format(**context)
        return mark, f"{subject}{rule} but is {_shown(problem['input'])}", _hint(kind, problem["input"], context)
    return mark, subject + problem["msg"], context.get("hint")


def _hint(kind: str, value: Any, context: Mapping[str, Any]) -> str | None:
    if kind == "literal_error" and isinstance(value, str):
        return suggestion(value, [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")])
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"write {value:.0f}"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type"):
        return "write it without quotes" if not isinstance(parse_scalar(value, Mark("")), str) else None
    return None


def _path(loc: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    # pydantic puts the tags of unions into the location. A step that the data lacks is a tag,
    # unless it is the last and names a missing value.
    path: list[str | int] = []
    here = data
    for index, step in enumerate(loc):
        inside = step in here if isinstance(here, dict) else isinstance(here, list) and step in range(len(here))
        if inside:
            here = here[step]
            path.append(step)
        elif missing and index == len(loc) - 1:
            path.append(step)
    return tuple(path)


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
