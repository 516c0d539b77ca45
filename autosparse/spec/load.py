"""A spec from a file, its bases and the command line: located, merged, validated, with the origin of every value."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from autosparse import user_code
from autosparse.borders import border, expand, in_short, shown_path
from autosparse.datasets import datasets
from autosparse.errors import Problem, SpecError, UsageError
from autosparse.models import models
from autosparse.packaged import is_shipped, shipped
from autosparse.pretrained import pretrained_scorers
from autosparse.registry import Option, options_of
from autosparse.spec.budget import BudgetValue
from autosparse.spec.diagnostics import dotted, explain, in_order
from autosparse.spec.document import METHODS, Document, Incomplete, Mark, Path, parse_value, texts
from autosparse.spec.overrides import (
    BudgetOption,
    apply_budget,
    apply_override,
    budget_option,
    budget_texts,
    forget,
    override_texts,
    set_value,
)
from autosparse.spec.reading import TEXT, path_of, read_document
from autosparse.spec.schema import AUTO, Spec
from autosparse.spec.section import checked
from autosparse.store import Store, digest

FILE = "autosparse.yaml"

_MOST_VARIED = 500


@dataclass(frozen=True)
class LoadedSpec:
    """Validated spec, and the origin of its values.

    Attributes:
        spec: Validated spec.
        name: Stem of the file's name.
        path: File of the spec; None for a spec from plain data.
        document: Merged YAML, with the file, line and column of every value.
        relative: Paths in the spec, now absolute, that were written relative to its file.
        origin: File of the spec, for a spec from a saved plan.
    """

    spec: Spec
    name: str
    path: FilePath | None
    document: Document
    relative: frozenset[str] = frozenset()
    origin: FilePath | None = None

    @property
    def identity(self) -> str | None:
        """The resolved path of the spec's file, independent of the name used."""
        file = self.path or self.origin
        return str(file.resolve()) if file else None


@dataclass(frozen=True)
class SpecPath:
    """A spec file and, if no name was given, the reason for its choice."""

    path: FilePath
    why: str | None


def find_spec(named: str | None, store: Store) -> SpecPath:
    """Return the named spec; else `AUTOSPARSE_SPEC`, the last one used here, `autosparse.yaml` here or above, digits.

    A name that is no file but a bundled spec's, with or without its folder, means the bundled one.
    """
    if named is not None:
        path = FilePath(named)
        known = shipped("specs")
        ships = path.stem in known and path.suffix in ("", ".yaml") and str(path.parent) in (".", "specs")
        if ships and not path.exists():
            return SpecPath(known[path.stem], f"{named} is not here; using the bundled spec of that name")
        return SpecPath(path, None)
    if variable := os.environ.get("AUTOSPARSE_SPEC"):
        if not (path := expand(variable)).is_file():
            raise UsageError(f"`AUTOSPARSE_SPEC` names {shown_path(path)}, which is not a file")
        return SpecPath(path, "it is in `AUTOSPARSE_SPEC`")
    last = store.recall(_memory_key())
    if isinstance(last, str) and FilePath(last).is_file():
        path = FilePath(os.path.relpath(last) if FilePath(last).is_relative_to(FilePath.cwd()) else last)
        return SpecPath(path, "it is the last one used here")
    here = FilePath.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return SpecPath(folder / FILE if folder != here else FilePath(FILE), f"it is in {folder}")
    return SpecPath(shipped("specs")["digits"], "no other spec was found: it ships with autosparse")


def remember_spec(path: FilePath, store: Store) -> None:
    """Make a spec the default of commands in this directory."""
    store.remember(_memory_key(), str(path.resolve()))


def _memory_key() -> str:
    return "spec-" + digest(str(FilePath.cwd()))[:16]


def load_spec(
    source: str | os.PathLike[str] | Mapping[str, Any] | Spec | LoadedSpec,
    *,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    budget: BudgetOption | Sequence[BudgetOption] | None = None,
) -> LoadedSpec:
    """Read a spec, merge its bases and the overrides, and validate the result.

    Args:
        source: YAML file, YAML text, plain data, a Spec, or an earlier result. A str with a line break or `: ` is
            text. Paths in text and data are relative to the current directory.
        overrides: Values to replace: path of an option -> value, or texts `path.to.key=value` with a YAML value.
        budget: One or several budgets that replace the spec's, such as 0.99, `100x`, `{"parameters": "120k"}`
            or `{"macs": "30%"}`.

    Returns:
        The validated spec, with the origin of every value.

    Raises:
        UsageError: If the file cannot be read.
        SpecError: If the spec is invalid, with every problem and its file, line and column.

    Examples:
        >>> loaded = load_spec("{model: lenet, dataset: digits, method: snip}", overrides={"training.epochs": 2})
        >>> loaded.spec.training.epochs
        2
        >>> load_spec({"model": "lenet", "dataset": "digits"}, budget=0.9).spec.budget
        (0.9,)
    """
    with _total(TEXT):
        changes, budgets = override_texts(overrides), budget_texts(budget)
    if isinstance(source, LoadedSpec):
        path, document = source.path, copy.deepcopy(source.document)
    else:
        given = source.model_dump(mode="json", exclude_unset=True) if isinstance(source, Spec) else source
        path = path_of(given)
        with _total(TEXT if path is None else str(path)):
            document = read_document(given)
    name = TEXT if path is None else str(path)
    for change in changes:
        with _total(f"--set {change}"):
            apply_override(document, change)
    if budgets:
        with _total(" ".join(map(budget_option, budgets))):
            apply_budget(document, budgets)
    with _total(name):
        return _loaded(document, path, changes, budgets)


def find_budget(budgets: Sequence[BudgetValue], asked: BudgetOption) -> BudgetValue | None:
    """Return the budget of this name or notation, such as `30% macs`, `macs=30%` or {"macs": "30%"}; None for another.

    Raises UsageError for anything that is not one budget.
    """
    if meant := [budget for budget in budgets if str(budget) == asked]:
        return meant[0]
    try:
        read = load_spec({"model": "lenet", "dataset": "digits"}, budget=asked).spec.budget
    except SpecError as error:
        raise UsageError(error.message, error.hint) from None
    if len(read) != 1:
        raise UsageError(f"`budget` must be one budget but is {len(read)}", "call once for each")
    return next((budget for budget in budgets if budget == read[0]), None)


def _total(name: str) -> AbstractContextManager[None]:
    # Any error in a spec is one of its file or option, also one that no rule expects.
    return border(lambda error: SpecError(Problem(f"the spec cannot be read: {in_short(error)}", file=name)))


def _loaded(document: Document, path: FilePath | None, overrides: Sequence[str], budget: Sequence[str]) -> LoadedSpec:
    problems = [*document.problems, *_second_values(document), *_varied_values(document)]
    written = [text for _, text, _ in texts(document.data)]
    _make_absolute(document)
    now = [text for _, text, _ in texts(document.data)]
    relative = frozenset(after for before, after in zip(written, now, strict=True) if after != before)
    options = (*(f"--set {text}" for text in overrides), *map(budget_option, budget))
    spec = _validate(document, problems, options)
    return LoadedSpec(spec, "spec" if path is None else path.stem, path, document, relative)


def _second_values(document: Document) -> Iterator[Problem]:
    # A key written twice is one mistake; its second value may hold others.
    for second in document.repeated:
        if second.path != ("extends",):
            for problem in _with_value(document, second.path, second.document, _put, _varied_values):
                if problem.path != dotted(second.path) or not problem.message.startswith("unknown key"):
                    yield problem


def _varied_values(document: Document) -> Iterator[Problem]:
    # The path must exist in the spec, and accept each of its values.
    study = document.at(("study",))
    study = study if isinstance(study, dict) else {}
    if (number := sum(len(values) for values in study.values() if isinstance(values, list))) > _MOST_VARIED:
        mark = document.nearest(("study",)) or Mark("spec")
        yield mark.problem(f"`study` has {number} values", f"at most {_MOST_VARIED}")
        return
    for name, values in study.items():
        for number, value in enumerate(values if isinstance(values, list) else ()):
            whole = ("study", name, number)
            path = tuple(name.split("."))
            marks = {(*path, *at[3:]): mark for at, mark in document.values.items() if at[:3] == whole}
            keys = {(*path, *at[3:]): mark for at, mark in document.keys.items() if at[:3] == whole}
            nearest = document.nearest(whole) or Mark("spec")  # an option has one mark for all of its values
            marks.setdefault(path, nearest)
            keys[path] = document.keys.get(whole[:2], nearest)
            yield from _with_value(document, path, Document(value, marks, keys), set_value)


def _put(document: Document, path: Path, value: Document) -> None:
    # Replace a value that stands in the file, unless an option has replaced what holds it.
    if isinstance(above := document.at(path[:-1]), dict):
        above[path[-1]] = value.data
        forget(document, path)
        document.values.update(value.values)
        document.keys.update(value.keys)


def _with_value(
    document: Document,
    path: Path,
    value: Document,
    change: Callable[[Document, Path, Document], None],
    more: Callable[[Document], Iterable[Problem]] = lambda _: (),
) -> Iterator[Problem]:
    # The mistakes in a value at a path of the spec, in place of the present one; `more` adds some of the document.
    marks = {str(mark) for mark in (*value.values.values(), *value.keys.values())}
    other = Document(copy.deepcopy(document.data), dict(document.values), dict(document.keys))
    change(other, path, value)
    _make_absolute(other)
    counts = [*other.problems, *explain(checked(Spec, _frozen(other.data)).problems, other), *more(other)]
    yield from (problem for problem in counts if str(problem).startswith(tuple(f"{mark}: " for mark in marks)))


def parse_list(text: str, name: str) -> list[Any]:
    """Return the values of `a, b, c`, each in YAML; the brackets are optional. Raises SpecError."""
    with _total(name):
        values: list[Any] = parse_value(f"list: [{text}]", name)["list"]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not values:
        raise UsageError(f"`{name}` names no value", "such as `--vary irp.rounds=4,8`")
    return values


def take_spec(data: Mapping[str, Any], name: str, relative: frozenset[str] = frozenset()) -> LoadedSpec:
    """Validate a spec from plain data, such as a resolved one; its paths stay unchanged."""
    document = Document(data)
    with _total(name):
        return LoadedSpec(_validate(document), name, None, document, relative)


def _validate(document: Document, problems: Iterable[Problem] = (), options: Sequence[str] = ()) -> Spec:
    spec = checked(Spec, _frozen(document.data))
    root = document.values.get((), Mark("")).name
    if mistakes := in_order([*problems, *explain(spec.problems, document)], root, options):
        raise SpecError.listing(mistakes)
    return spec


_OF_TICKET: tuple[Path, ...] = (("ticket", "model"), ("ticket", "dataset"))


def _make_absolute(document: Document) -> None:
    # Files are relative to the spec that names them, or to the working directory for the command line.
    several = document.at(("irp", "models"))
    networks: list[Path] = [("irp", "models", n) for n in range(len(several) if isinstance(several, list) else 0)]
    for path in (("model",), ("dataset",), ("irp", "model"), ("irp", "dataset"), *_OF_TICKET, *networks):
        _write_out(document, path)
    for path in (("ticket",), ("ticket", "folder")):
        if isinstance(written := document.at(path), str) and written:
            document.at(path[:-1])[path[-1]] = _absolute(written, _folder(document, path))
    written = document.at(path := ("scorer", "pretrained"))
    if isinstance(written, str) and written and written not in pretrained_scorers():
        document.data["scorer"]["pretrained"] = _absolute(written, _folder(document, path))


def _write_out(document: Document, path: Path) -> None:
    above, choice = document.at(path[:-1]), document.at(path)
    registry = datasets if path[-1] == "dataset" else models
    name = choice.get("name") if isinstance(choice, dict) else choice
    if not isinstance(name, str) or (entry := registry.find(name)) is None:
        return
    if isinstance(choice, dict):
        _write_out_options(document, path, choice, entry.options)
    if entry.facts.get("user_code"):
        folder = _folder(document, (*path, "name") if isinstance(choice, dict) else path)
        if isinstance(choice, dict):
            choice["name"] = user_code.absolute(name, folder)
        else:
            above[path[-1]] = user_code.absolute(name, folder)


def _write_out_options(document: Document, path: Path, written: dict[str, Any], options: Mapping[str, Option]) -> None:
    for key, value in written.items():
        if (option := options.get(key)) is None:
            continue
        if option.is_path:
            folder = _folder(document, (*path, key))
            # A bundled spec resolves paths as if it were in `specs` here: the package never contains data.
            written[key] = _absolute(value, FilePath("specs") if is_shipped(folder) else folder)
        elif option.mapping and isinstance(value, dict):
            _write_out_options(document, (*path, key), value, options_of(option.mapping))


def _folder(document: Document, path: Path) -> FilePath:
    mark = document.nearest(path)  # a name that became a mapping, because an option was set, has no mark
    return FilePath(mark.name).parent if mark and mark.line else FilePath()


def _absolute(value: Any, folder: FilePath) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if not isinstance(value, str) or value.startswith("~"):
        return value
    return os.path.normpath(FilePath(folder, value).absolute())


def _frozen(data: Any) -> Any:
    if isinstance(data, dict):
        kind = Incomplete if isinstance(data, Incomplete) else dict
        return kind({key: _frozen(value) for key, value in data.items()})
    return tuple(_frozen(value) for value in data) if isinstance(data, list) else data


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema of spec files, for editors and CI."""
    schema = Spec.model_json_schema()
    required = schema.pop("required")
    properties = schema["properties"]
    listed = properties["compare"]
    fields = {"type": "array", "minItems": 2}
    methods = {name: part for name, part in listed.items() if name in ("type", "items")}
    mapping = {"type": "object", "properties": {METHODS: methods}, "additionalProperties": fields}
    about_it = {name: part for name, part in listed.items() if name not in methods}
    properties["compare"] = {**about_it, "anyOf": [methods, mapping]}
    of_method = properties["method"].pop("$ref")
    properties["method"]["anyOf"] = [{"$ref": of_method}, {"const": AUTO}]
    properties["ticket"]["anyOf"] = [{"$ref": properties["ticket"].pop("$ref")}, {"type": "string", "minLength": 1}]
    properties["extends"] = {
        "type": "string",
        "description": "base spec, relative to this one; its values apply where this one sets none",
    }
    # A base may provide the required keys.
    schema["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "autosparse spec"}
