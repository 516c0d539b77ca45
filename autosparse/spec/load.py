"""A spec from a file, its bases and the command line: located, merged, validated, with the origin of every value."""

from __future__ import annotations

import codecs
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from autosparse import user_code
from autosparse.core.presets import PRESETS
from autosparse.datasets import datasets
from autosparse.errors import SpecError, UsageError
from autosparse.models import models
from autosparse.packaged import is_shipped, shipped
from autosparse.pretrained import pretrained_scorers
from autosparse.spec.diagnostics import explain
from autosparse.spec.document import Document, Mark, Path, parse_document, texts
from autosparse.spec.schema import Spec
from autosparse.store import Store, digest

FILE = "autosparse.yaml"


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
        if not FilePath(variable).is_file():
            raise UsageError(f"`AUTOSPARSE_SPEC` names {variable}, which is not a file")
        return SpecPath(FilePath(variable), "it is in `AUTOSPARSE_SPEC`")
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


def load_spec(path: FilePath, *, overrides: Sequence[str] = (), budget: Sequence[str] = ()) -> LoadedSpec:
    """Read a spec file, merge what it extends and the overrides, and validate the result.

    Args:
        path: YAML file.
        overrides: Values to replace, as `path.to.key=value` with a YAML value.
        budget: Budgets that replace the spec's, such as `0.99`, `100x` or `parameters=120k`.

    Returns:
        The validated spec, with the origin of every value.

    Raises:
        UsageError: If the file cannot be read.
        SpecError: If the spec is invalid, with every problem and its file, line and column.

    Examples:
        >>> path = FilePath("snip.yaml")
        >>> _ = path.write_text("{version: 1, model: lenet, dataset: digits, method: snip}")
        >>> loaded = load_spec(path, overrides=["training.epochs=2"], budget=["0.9"])
        >>> loaded.name, loaded.spec.training.epochs
        ('snip', 2)
    """
    document = _read(path, ())
    for override in overrides:
        _override(document, override)
    loaded = _loaded(path, document, budget)
    for dotted, values in loaded.spec.study.items():
        for number, _ in enumerate(values):
            _check_varied(path, document, dotted, number)
    return loaded


def _check_varied(path: FilePath, document: Document, dotted: str, number: int) -> None:
    # The path must exist in the spec, and accept the value.
    mark = document.nearest(("study", dotted, number)) or Mark(str(path))
    other = Document(copy.deepcopy(document.data), dict(document.values), dict(document.keys))
    _set_dotted(other, dotted, document.data["study"][dotted][number], mark)
    try:
        _loaded(path, other, ())
    except SpecError as error:
        if problems := [problem for problem in error.problems if problem[0].startswith(f"{mark}:")]:
            raise SpecError.of(problems) from None


def _loaded(path: FilePath, document: Document, budget: Sequence[str]) -> LoadedSpec:
    if budget:
        values = [_given_budget(text) for text in budget]
        _set(document, ("budget",), values, Mark(" ".join(f"--budget {text}" for text in budget)))
    written = [text for _, text, _ in texts(document.data)]
    _make_absolute(document)
    now = [text for _, text, _ in texts(document.data)]
    relative = frozenset(after for before, after in zip(written, now, strict=True) if after != before)
    return LoadedSpec(_validate(document), path.stem, path, document, relative)


def parse_list(text: str, name: str) -> list[Any]:
    """Return the values of `a, b, c`, each in YAML; the brackets are optional. Raises SpecError."""
    values: list[Any] = parse_document(f"list: [{text}]", name).data["list"]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not values:
        raise UsageError(f"`{name}` names no value", "such as `--vary irp.rounds=4,8`")
    return values


def take_spec(data: Mapping[str, Any], name: str, relative: frozenset[str] = frozenset()) -> LoadedSpec:
    """Validate a spec from plain data, such as a resolved one; its paths stay unchanged."""
    document = Document(data)
    return LoadedSpec(_validate(document), name, None, document, relative)


def _validate(document: Document) -> Spec:
    try:
        # Strict: 1 is a float where one is due, but "1" and true are not numbers. Strict lists are tuples.
        return Spec.model_validate(_frozen(document.data), strict=True)
    except ValidationError as error:
        raise explain(error, document) from None


def _read(path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    try:
        data = path.read_bytes()
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", "name a spec file in it") from None
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", "run `autosparse init` to write a spec") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        mark = Mark(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise SpecError(
            f"{mark}: byte 0x{error.object[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from None
    document = parse_document(text, str(path))
    if not isinstance(document.data, dict):
        raise SpecError(f"{document.values[()]}: a spec must be a mapping of keys", "begin with `model: resnet8`")
    if "extends" not in document.data:
        return document
    base, mark = document.data.pop("extends"), document.values[("extends",)]
    if not isinstance(base, str):
        raise SpecError(f"{mark}: `extends` must be the path of a spec")
    try:
        target = (path.parent / base).resolve()
        known = target.is_file()
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise SpecError(f"{mark}: `extends` names {base[:40]!r}, which cannot be a path ({error})") from None
    if target in (*seen, path.resolve()):
        raise SpecError(f"{mark}: `extends` comes back to {base}")
    if not known:
        raise SpecError(f"{mark}: `extends` names {base}, which is not a file", f"looked for {target}")
    return _merge(_read(path.parent / base, (*seen, path.resolve())), document)


def _merge(base: Document, over: Document) -> Document:
    merged = Document(dict(base.data), {**base.values, (): over.values[()]}, dict(base.keys))
    _lay(merged, over, merged.data, over.data, ())
    return merged


def _lay(merged: Document, over: Document, below: dict[str, Any], above: Mapping[str, Any], path: Path) -> None:
    for key, value in above.items():
        inner = (*path, key)
        old: Any = below.get(key)
        # A mapping that names another choice replaces the base's, whose options would not apply. So does a budget.
        replaces = inner == ("budget",) or (inner == ("scorer",) and isinstance(value, dict) and "pretrained" in value)
        both = isinstance(value, dict) and isinstance(old, dict) and not replaces
        if both and value.get("name", old.get("name")) == old.get("name"):
            below[key] = dict(old)
            _lay(merged, over, below[key], value, inner)
        else:
            _forget(merged, inner)
            below[key] = value
            for marks, source in ((merged.values, over.values), (merged.keys, over.keys)):
                marks.update({marked: mark for marked, mark in source.items() if marked[: len(inner)] == inner})
        merged.values[inner], merged.keys[inner] = over.values[inner], over.keys[inner]


def _override(document: Document, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if any("\ud800" <= letter <= "\udfff" for letter in override):
        raise UsageError(f"`--set {override!a}` is not UTF-8")
    if not equals or not all(dotted.split(".")):
        raise UsageError(f"`--set {override}` must be `path.to.key=value`", "such as `--set training.epochs=5`")
    if dotted == "extends":
        raise UsageError("`extends` is read from the file alone", "write it there")
    mark = Mark(f"--set {override}")
    _set_dotted(document, dotted, parse_document(text, str(mark)).data if text else None, mark)


def _set_dotted(document: Document, dotted: str, value: Any, mark: Mark) -> None:
    path = tuple(dotted.split("."))
    if path == ("scorer", "pretrained"):  # replaces the scorer that the spec trains, with its options
        _set(document, ("scorer",), {}, mark)
    _set(document, path, value, mark)


def _set(document: Document, path: tuple[str, ...], value: Any, mark: Mark) -> None:
    section: Any = document.data
    for depth, key in enumerate(path[:-1]):
        if depth == 0 and key in ("method", "scorer"):  # the default, if the spec names none
            section.setdefault(key, Spec.model_fields[key].default)
        if isinstance(section.get(key), str):  # `--set model.width=8` on `model: resnet8`
            section[key] = _spread(key, section[key])
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"`{mark}`: `{'.'.join(path[: depth + 1])}` is not a mapping", "set it as a whole")
        section = inner
    _forget(document, path)
    section[path[-1]] = value
    for length in range(1, len(path)):  # the sections that this call creates
        document.values.setdefault(path[:length], mark)
        document.keys.setdefault(path[:length], mark)
    document.values[path] = document.keys[path] = mark


def _given_budget(text: str) -> Any:
    currency, equals, amount = text.partition("=")  # `parameters=120k`
    value = parse_document(amount if equals else text, f"--budget {text}").data if amount or not equals else None
    return {currency.strip(): value} if equals else value


def _make_absolute(document: Document) -> None:
    # Files are relative to the spec that names them, or to the working directory for the command line.
    several = document.at(("irp", "models"))
    networks: list[Path] = [("irp", "models", n) for n in range(len(several) if isinstance(several, list) else 0)]
    for path in (("model",), ("dataset",), ("irp", "model"), ("irp", "dataset"), *networks):
        _write_out(document, path)
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
        for key, value in choice.items():
            if (option := entry.options.get(key)) and option.is_path:
                folder = _folder(document, (*path, key))
                # A bundled spec resolves paths as if it were in `specs` here: the package never contains data.
                choice[key] = _absolute(value, FilePath("specs") if is_shipped(folder) else folder)
    if entry.facts.get("user_code"):
        folder = _folder(document, (*path, "name") if isinstance(choice, dict) else path)
        if isinstance(choice, dict):
            choice["name"] = user_code.absolute(name, folder)
        else:
            above[path[-1]] = user_code.absolute(name, folder)


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
        return {key: _frozen(value) for key, value in data.items()}
    return tuple(_frozen(value) for value in data) if isinstance(data, list) else data


def _spread(key: str, name: str) -> dict[str, Any]:
    # A preset with one choice replaced is another method, and does not take the preset's name.
    return dict(PRESETS[name][1]) if key == "method" and name in PRESETS else {"name": name}


def _forget(document: Document, path: Path) -> None:
    for marks in (document.values, document.keys):
        for marked in [marked for marked in marks if marked[: len(path)] == path]:
            del marks[marked]
