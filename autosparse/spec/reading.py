"""Documents of specs: read from files, texts and plain data, and laid over the specs that they extend."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from autosparse.borders import reason_of, shown_path
from autosparse.errors import SpecError, UsageError
from autosparse.spec.document import LARGEST, Document, Incomplete, Mark, Path, Rejected, parse_document, plain_values
from autosparse.spec.overrides import forget
from autosparse.store.sealed import SEAL, unseal

TEXT = "<spec>"
"""Name of a spec that is a text or plain data, in messages."""
_MOST_BASES = 64


def path_of(source: str | os.PathLike[str] | Mapping[str, Any]) -> FilePath | None:
    """Return the file that a source of a spec names; None for data and YAML text.

    A str is text if it has a line break or `: `, or begins with `{`. Raises UsageError for a value of another type.
    """
    is_text = isinstance(source, str) and ("\n" in source or ": " in source or source.lstrip().startswith("{"))
    if is_text or isinstance(source, Mapping):
        return None
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise UsageError(
            f"a spec must be a path, YAML text, a mapping or a Spec but is {kind}",
            'such as "resnet.yaml" or {"model": ...}',
        )
    return FilePath(source)


def read_document(source: str | os.PathLike[str] | Mapping[str, Any]) -> Document:
    """Read the document of a spec from a file, YAML text or plain data, with the files that it extends.

    Files that text or data extends are relative to the current directory. Raises UsageError for a file that cannot be
    read, and SpecError for text that is no spec.
    """
    if (path := path_of(source)) is not None:
        return _read(path, ())
    if isinstance(source, str):
        return _read_text(source, FilePath(TEXT), ())
    mark = Mark(TEXT)
    data = _with_lists(plain_values(source))
    data.pop(SEAL, None)  # the digest of a run folder's `resolved.json`
    marks: dict[Path, Mark] = dict.fromkeys(_paths(data, ()), mark)
    document = Document(data, {(): mark, **marks}, marks)
    return _extended(document, FilePath(TEXT), ()) if "extends" in data else document


def _with_lists(value: Any) -> Any:
    # As YAML has them: lists for tuples, at any depth.
    if isinstance(value, dict):
        return {key: _with_lists(inner) for key, inner in value.items()}
    return [*map(_with_lists, value)] if isinstance(value, list | tuple) else value


def _paths(data: Any, path: Path) -> Iterator[Path]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _read(path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    try:
        with path.open("rb") as file:  # perhaps a pipe, such as `/dev/stdin`, or a device without end
            data = file.read(LARGEST + 1)
        text = data.removeprefix(codecs.BOM_UTF8).decode(errors="replace" if len(data) > LARGEST else "strict")
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", "name a spec file in it") from None
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", "run `autosparse init` to write a spec") from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        mark = Mark(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        text = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise SpecError(mark.problem(text, "save the file as UTF-8")) from None
    except Exception as error:  # such as a null character in the path
        raise UsageError(f"{shown_path(path)} cannot be read: {reason_of(error)}") from None
    return _read_text(text, path, seen)


def _read_text(text: str, path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    document = parse_document(text, str(path))
    if not isinstance(document.data, dict):
        mark = document.values[()]
        raise SpecError(mark.problem("a spec must be a mapping of keys", "begin with `model: resnet8`"))
    if SEAL in document.data:  # the `resolved.json` of a run folder
        _check_seal(text, document)
    return _extended(document, path, seen) if "extends" in document.data else document


def _check_seal(text: str, document: Document) -> None:
    # Drop the digest of a sealed spec. Raises SpecError for one that was changed.
    mark = document.values[(SEAL,)]
    try:
        unseal(text.encode())
    except ValueError as error:
        raise SpecError(mark.problem(str(error), f"delete `{SEAL}` if you edited the file")) from None
    del document.data[SEAL]


def _extended(document: Document, path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    base, mark = document.data.pop("extends"), document.values[("extends",)]
    seen = (*seen, path.resolve())
    if len(seen) > _MOST_BASES:
        raise SpecError(mark.problem(f"`extends` goes through more than {_MOST_BASES} files"))
    for second in document.repeated:
        if second.path == ("extends",):
            try:
                _base(second.document.data, second.document.values[("extends",)], path, seen)
            except SpecError as error:
                document.problems.extend(error.errors)
    if isinstance(base, Rejected):  # reported by the reader
        return replace(document, data=_incomplete(document.data))
    try:
        below = _read(_base(base, mark, path, seen), seen)
    except SpecError as error:  # go on with the keys of this file; any others may stand in the base
        document.problems.extend(error.errors)
        return replace(document, data=_incomplete(document.data))
    except UsageError as error:
        document.problems.append(mark.problem(f"`extends`: {error.message}", error.hint))
        return replace(document, data=_incomplete(document.data))
    return _merge(below, document)


def _base(base: Any, mark: Mark, path: FilePath, seen: tuple[FilePath, ...]) -> FilePath:
    if not isinstance(base, str) or not base:
        raise SpecError(mark.problem("`extends` must be the path of a spec"))
    try:
        target = (path.parent / base).resolve()
        known = target.is_file()
    except Exception as error:  # too long, with a null character, or a link to itself
        message = f"`extends` names {shown_path(base)}, which cannot be a path: {reason_of(error)}"
        raise SpecError(mark.problem(message)) from None
    if target in seen:
        raise SpecError(mark.problem(f"`extends` comes back to {base}"))
    if not known:
        raise SpecError(mark.problem(f"`extends` names {base}, which is not a file", f"looked for {target}"))
    return path.parent / base


def _incomplete(data: Any) -> Any:
    if isinstance(data, dict):
        return Incomplete({key: _incomplete(value) for key, value in data.items()})
    return data


def _merge(base: Document, over: Document) -> Document:
    merged = Document(
        base.data,
        {**base.values, (): over.values[()]},
        dict(base.keys),
        [*over.problems, *base.problems],
        [*over.repeated, *base.repeated],
    )
    return replace(merged, data=_lay(merged, over, base.data, over.data, ()))


def _lay(
    merged: Document, over: Document, below: Mapping[str, Any], above: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    kind = Incomplete if isinstance(below, Incomplete) or isinstance(above, Incomplete) else dict
    laid: dict[str, Any] = kind(below)
    for key, value in above.items():
        inner = (*path, key)
        old: Any = below.get(key)
        # A mapping that names another choice replaces the base's, whose options would not apply. So does a budget.
        replaces = inner == ("budget",) or (inner == ("scorer",) and isinstance(value, dict) and "pretrained" in value)
        both = isinstance(value, dict) and isinstance(old, dict) and not replaces
        if both and value.get("name", old.get("name")) == old.get("name"):
            laid[key] = _lay(merged, over, old, value, inner)
        else:
            forget(merged, inner)
            laid[key] = value
            for marks, source in ((merged.values, over.values), (merged.keys, over.keys)):
                marks.update({marked: mark for marked, mark in source.items() if marked[: len(inner)] == inner})
        merged.values[inner], merged.keys[inner] = over.values[inner], over.keys[inner]
    return laid
