"""Options that change a spec: `--set path.to.key=value` and `--budget`, whose mistakes become those of the document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, get_args, get_origin

from autosparse.core.presets import PRESETS
from autosparse.errors import Problem, SpecError, UsageError
from autosparse.spec.choices import Choice
from autosparse.spec.document import METHODS, Document, Mark, Path, Rejected, Repeated, parse_document, plain_values
from autosparse.spec.method import Method
from autosparse.spec.schema import Spec
from autosparse.spec.section import Section
from autosparse.text import quoted

_DEEPEST = 64

BudgetOption: TypeAlias = "float | str | Mapping[str, Any]"
"""A budget as `--budget` takes it, or in Python: 0.99, `100x`, `macs=30%` or {"parameters": 120_000}."""


def override_texts(overrides: Mapping[str, Any] | Sequence[str] | None) -> list[str]:
    """Return overrides as texts `path.to.key=value`: a mapping's values become YAML. Raises UsageError for others."""
    if isinstance(overrides, str):
        return [overrides]
    if isinstance(overrides, Mapping):
        return [f"{path}={_yaml(value)}" for path, value in overrides.items()]
    texts = overrides if isinstance(overrides, Sequence) else () if overrides is None else [overrides]
    if odd := [text for text in texts if not isinstance(text, str)]:
        message = f"an override must be a text `path.to.key=value` but is {type(odd[0]).__name__}"
        raise UsageError(message, 'or write a mapping, such as {"training.epochs": 5}')
    return [*texts]


def budget_texts(budget: BudgetOption | Sequence[BudgetOption] | None) -> list[str]:
    """Return one or several budgets as texts of `--budget`; None is none."""
    if budget is None:
        return []
    values = plain_values(budget)
    return [_budget_text(one) for one in (values if isinstance(values, list | tuple) else [values])]


def _budget_text(value: BudgetOption) -> str:
    if isinstance(value, Mapping) and len(value) == 1:
        ((currency, amount),) = value.items()
        return f"{currency}={amount}"
    return value if isinstance(value, str) else _yaml(value)


def _yaml(value: Any) -> str:
    return json.dumps(plain_values(value), ensure_ascii=False, default=str)


def apply_override(document: Document, override: str) -> None:
    """Set the value of `path.to.key=value`, or add a problem to the document."""
    dotted, equals, text = override.partition("=")
    mark = Mark(f"--set {override}")
    if any("\ud800" <= letter <= "\udfff" for letter in override):
        document.problems.append(Problem("the option is not UTF-8", file=f"--set {override!a}"))
    elif not equals or not all(dotted.split(".")):
        message = "the option must be `path.to.key=value`"
        document.problems.append(mark.problem(message, "such as `--set training.epochs=5`"))
    elif dotted.count(".") >= _DEEPEST:
        document.problems.append(mark.problem(f"the path has more than {_DEEPEST} keys"))
    elif dotted == "extends":
        document.problems.append(mark.problem("`extends` is read from the file alone", "write it there"))
    else:
        first, *others = dotted.split(".")
        # The keys of `study` are paths themselves.
        path: Path = (first, ".".join(others)) if first == "study" and others else (first, *others)
        set_value(document, path, Document(_value(document, text, mark, path) if text else None, {path: mark}))


def apply_budget(document: Document, budget: Sequence[str]) -> None:
    """Replace the budget by the values of `--budget`."""
    marks = [(text, Mark(budget_option(text))) for text in budget]
    data = [_budget(document, text, mark, ("budget", number)) for number, (text, mark) in enumerate(marks)]
    values: dict[Path, Mark] = {("budget", number): mark for number, (_, mark) in enumerate(marks)}
    whole = Mark(" ".join(str(mark) for _, mark in marks))
    set_value(document, ("budget",), Document(data, {**values, ("budget",): whole}))


def budget_option(text: str) -> str:
    """Return the option of a budget as errors name it."""
    return f"--budget {text or quoted(text)}"


def _budget(document: Document, text: str, mark: Mark, path: Path) -> Any:
    currency, equals, amount = text.partition("=")  # `parameters=120k`
    written = amount if equals else text
    path = (*path, currency.strip()) if equals else path
    value = _value(document, written, mark, path) if written else None
    return {currency.strip(): value} if equals else value


def _value(document: Document, text: str, mark: Mark, path: Path) -> Any:
    # The value of an option at a path; its mistakes and its repeated keys become those of the document.
    try:
        value = parse_document(text, str(mark), has_lines=False)
    except SpecError as error:
        document.problems.extend(error.errors)
        return Rejected(text=text)
    document.problems.extend(value.problems)
    for second in value.repeated:
        inner = (*path, *second.path)
        document.repeated.append(Repeated(inner, Document(second.document.data, {inner: mark}, {inner: mark})))
    return value.data


def set_value(document: Document, path: Path, value: Document) -> None:
    """Set a value at a path, with its marks, and create the sections on the way; or add a problem."""
    if path == ("scorer", "pretrained"):  # replaces the scorer that the spec trains, with its options
        _set(document, ("scorer",), Document({}, {("scorer",): value.values[path]}))
    compare = document.data.get("compare")
    if path == ("compare",) and isinstance(compare, dict) and isinstance(value.data, list):
        # A list in place of `{methods: [...], lr: [...]}` replaces the methods.
        below = ("compare", METHODS)
        marks, keys = ({(*below, *at[1:]): mark for at, mark in part.items()} for part in (value.values, value.keys))
        path, value = below, Document(value.data, marks, keys)
    if path[:1] == ("compare",) and len(path) > 1 and isinstance(compare, list):
        document.data["compare"] = {METHODS: compare}
        for part in (document.values, document.keys):
            listed = {at: part.pop(at) for at in [*part] if at[:1] == ("compare",)}
            part.update({("compare", METHODS, *at[1:]): mark for at, mark in listed.items()})
            part.update({at: mark for at, mark in listed.items() if at == ("compare",)})
    _set(document, path, value)


def _set(document: Document, path: Path, value: Document) -> None:
    section, mark = document.data, value.values[path]
    key_mark = value.keys.get(path, mark)
    for depth, key in enumerate(path[:-1]):
        if depth == 0 and key in ("method", "scorer"):  # the default, if the spec names none
            section.setdefault(key, Spec.model_fields[key].default)
        if isinstance(section.get(key), str) and _takes_name(path[: depth + 1]):  # `--set model.width=8`
            section[key] = _spread(path[: depth + 1], section[key])
        inner = section.setdefault(key, {})
        if isinstance(inner, Rejected):  # reported already
            return
        if not isinstance(inner, dict):
            outer = ".".join(map(str, path[: depth + 1]))
            document.problems.append(key_mark.problem(f"`{outer}` is not a mapping", "set it as a whole"))
            return
        section = inner
    forget(document, path)
    section[path[-1]] = value.data
    for length in range(1, len(path)):  # the sections that this call creates
        document.values.setdefault(path[:length], mark)
        document.keys.setdefault(path[:length], key_mark)
    document.keys[path] = key_mark
    document.values.update(value.values)
    document.keys.update(value.keys)


def _takes_name(path: Path) -> bool:
    # True for a value that a name may stand for, such as `model: resnet8` for `model: {name: resnet8}`.
    sections: list[Any] = [Spec]
    for key in path:
        fields = [section.model_fields[key] for section in sections if key in section.model_fields]
        sections = [section for field in fields for section in _sections(field.annotation)]
    return any(issubclass(section, Choice | Method) for section in sections)


def _sections(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) is not tuple:
        for inner in get_args(annotation):
            yield from _sections(inner)


def _spread(path: Path, name: str) -> dict[str, Any]:
    # A preset with one choice replaced is another method, and does not take the preset's name.
    if path == ("method",):
        return dict(PRESETS[name][1]) if name in PRESETS else {"preset": name}
    return {"name": name}


def forget(document: Document, path: Path) -> None:
    """Remove the marks of a value and of all in it."""
    for marks in (document.values, document.keys):
        for marked in [marked for marked in marks if marked[: len(path)] == path]:
            del marks[marked]
