"""User code, `path/to/file.py:factory` or `package.module:factory`: identified by source, imported late."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from autosparse.backends import usable_cores
from autosparse.borders import border, expand, in_short, is_out_of_memory, out_of_memory
from autosparse.errors import AutosparseError, OwnCodeError, UsageError
from autosparse.foreign_code import location_of, printing_to_stderr
from autosparse.registry import suggestion
from autosparse.store import contents, digest, file_digest, name_in

_IMPORTING: ContextVar[str] = ContextVar("_IMPORTING", default="")
"""Name of the factory whose module this thread imports."""
PATTERN = r"(?:[^\n]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*"
"""Pattern of a name."""
_OWN = "write a function that returns a network or a dataset, and name it as `FILE.py:FUNCTION`"


def refuse_while_importing(function: str) -> None:
    """Raise UsageError if user code calls a function of autosparse while its module is imported for a factory."""
    if name := _IMPORTING.get():
        raise UsageError(
            f"`{name.rpartition(':')[0]}` calls `{function}` while it is imported for `{name}`",
            'put the call below `if __name__ == "__main__":`',
        )


def label(name: str) -> str:
    """Return a name without its folders: `file.py:factory`."""
    return name.replace("\\", "/").rpartition("/")[2]


def absolute(name: str, folder: Path) -> str:
    """Return a name with the full path of its file, relative to `folder`; a module's name stays unchanged."""
    file, _, factory = name.rpartition(":")
    if not file.endswith(".py"):
        return name
    return f"{os.path.normpath((folder / expand(file)).absolute())}:{factory}"


def sources(name: str) -> dict[str, str]:
    """Return file -> sha256 of the syntax tree, for the module and its imports from the same folder.

    Nothing runs. Comments and layout are not part of the tree. Names are relative to the root folder of imports.
    Computed imports are not detected. Raises UsageError for a missing file, OwnCodeError for one that is not Python.
    """
    file, folder = _find(name)
    digests: dict[str, str] = {}
    packages = [parent / "__init__.py" for parent in file.parents if parent.is_relative_to(folder) and parent != folder]
    waiting = [file, *filter(Path.is_file, packages)]
    while waiting:
        path = waiting.pop()
        key = path.relative_to(folder).as_posix()
        if key not in digests:
            if path.suffix != ".py":  # compiled
                digests[key] = file_digest(path)
                continue
            with _parsing(path, name):
                digests[key], imports = _parsed(path.read_bytes())
            waiting += _imported(imports, path, folder)
    return dict(sorted(digests.items()))


def load_factory(name: str) -> Callable[..., Any]:
    """Import the module and return the factory. Raises OwnCodeError with the location of a failure in the module."""
    file, folder = _find(name)
    module, _, factory = name.rpartition(":")
    if str(folder) not in sys.path:  # after the standard library, so that it shadows no module of it
        indices = (at for at, entry in enumerate(sys.path) if {"site-packages", "dist-packages"} & {*Path(entry).parts})
        sys.path.insert(next(indices, len(sys.path)), str(folder))
    with guarded(name, "importing"):
        token = _IMPORTING.set(label(name))
        try:
            loaded = _load_file(file) if module.endswith(".py") else importlib.import_module(module)
        finally:
            _IMPORTING.reset(token)
    _check_neighbours(name, folder)
    made = getattr(loaded, factory, None)
    if callable(made) and _is_pythons(made):
        raise UsageError(f"`{factory}` of {file} is a function of Python or of a C library, not a factory", _OWN)
    if not callable(made):
        known = [key for key, value in vars(loaded).items() if callable(value) and not key.startswith("_")]
        what = "is no function" if hasattr(loaded, factory) else "does not exist"
        hint = suggestion(factory, known) or f"functions there: {', '.join(known) or 'none'}"
        raise UsageError(f"`{factory}` of {file} {what}", hint)
    return made  # type: ignore[no-any-return]


def call(name: str, factory: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Call the user's factory. Raises UsageError for arguments that it does not take and for its errors."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # implemented in C
        raise UsageError(f"`{label(name)}` has no signature: it is no factory", _OWN) from None
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        every = signature.parameters
        known = [key for key, one in every.items() if one.kind is one.KEYWORD_ONLY or one.default is not one.empty]
        wrong = next((key for key in options if key not in every), "")
        raise UsageError(
            f"`{label(name)}` takes {signature} but is called as "
            f"({', '.join([*map(str, given), *(f'{key}={value!r}' for key, value in options.items())])}): {error}",
            suggestion(wrong, known)
            or "models are called as `factory(input_shape, classes, **options)`, datasets as `factory(**options)`",
        ) from None
    with guarded(name, "calling"):
        return factory(*given, **options)


def identity_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a factory and its options in cache keys."""
    factory = name.rpartition(":")[2]
    return {"name": "own", "factory": factory, "sources": sources(name), "options": content_of(options)}


def content_of(value: Any) -> Any:
    """Return an option's value with digests of files in place of their paths.

    A text that names a file, or a folder with a slash in its name, counts as a path; lists and mappings are searched
    too. Paths are relative to the current directory.
    """
    if isinstance(value, Mapping):
        return {key: content_of(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [content_of(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        path = expand(value)
    except UsageError:  # a text that is no path
        return value
    if path.is_file():
        folder, files = path.parent, [path]
    elif path.is_dir() and ("/" in value or os.sep in value) and path.parent != path:
        folder = path
        files = [file for where, _, names in os.walk(path) for name in names if (file := Path(where, name)).is_file()]
    else:
        return value
    return {
        name_in(folder, file): content
        for file, content in contents(folder, files, threads=usable_cores().value).items()
    }


@contextmanager
def guarded(name: str, doing: str) -> Iterator[None]:
    """Turn any error of user code into an OwnCodeError with the file and line of the user's code that raised it.

    Out of memory, it becomes a FitError. Output of user code goes to stderr: stdout is for results.
    """

    def refuse(error: BaseException) -> AutosparseError:
        if is_out_of_memory(error):
            return out_of_memory(f"{doing} `{label(name)}`", error)
        location = location_of(error, libraries=False) or _find(name)[0]
        return OwnCodeError(
            f"{location}: {doing} `{label(name)}` failed: {in_short(error)}",
            "`autosparse --debug` shows all of it",
        )

    with printing_to_stderr(), border(refuse):
        yield


def _find(name: str) -> tuple[Path, Path]:
    # The module's file, and the root folder of its imports.
    module, _, _ = name.rpartition(":")
    if module.endswith(".py"):
        file = expand(module).absolute()
        if not file.is_file():
            raise UsageError(
                f"there is no file {file}",
                "a file is named relative to the spec that names it, in `--set` to where you are",
            )
        return file, file.parent
    top, *rest = module.split(".")
    spec = PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) or importlib.util.find_spec(top)
    if spec is None:
        raise UsageError(f"there is no Python module `{top}`", "install it, or run where it lies")
    if spec.origin in ("built-in", "frozen") or _is_standard(spec.origin):
        raise UsageError(f"`{module}` is a module of Python, which holds no factory of a network or a dataset", _OWN)
    if spec.submodule_search_locations:  # a package, which has no file without an `__init__.py`
        path = Path(next(iter(spec.submodule_search_locations)))
        file, folder = path / "__init__.py", path.parent
    else:
        file, folder = Path(spec.origin or top), Path(spec.origin or top).parent
    if rest or not file.is_file():
        stem = folder.joinpath(top, *rest)
        if not (files := _files_of(stem)):
            raise UsageError(f"there is no Python module `{module}`", f"looked for {stem / '__init__.py'}")
        file = files[0]
    return file.absolute(), folder.absolute()


def _is_standard(file: str | None) -> bool:
    # Whether a file belongs to Python's standard library: hashing its imports would read all of it.
    path = Path(file or ".").resolve()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return path.is_relative_to(standard) and not {"site-packages", "dist-packages"} & {*path.parts}


def _is_pythons(made: Callable[..., Any]) -> bool:
    # Whether a function or a class is Python's, or a function in C: `system` that a module imports from `os`.
    code = getattr(inspect.unwrap(made), "__code__", None)
    module = sys.modules.get(made.__module__) if inspect.isclass(made) else None
    return inspect.isbuiltin(made) or _is_standard(code.co_filename if code else getattr(module, "__file__", None))


@contextmanager
def _parsing(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (SyntaxError, ValueError) as error:  # ValueError: null characters
        where = f"{path}:{error.lineno}:{error.offset}" if isinstance(error, SyntaxError) else str(path)
        raise OwnCodeError(f"{where}: `{label(name)}` is not Python: {getattr(error, 'msg', error)}") from error
    except (RecursionError, MemoryError) as error:  # the parser's limits, of which no code is out of memory
        raise OwnCodeError(f"{path}: `{label(name)}` is nested too deeply for Python") from error


_Import = tuple[int, tuple[str, ...], tuple[str, ...]]


@lru_cache(maxsize=256)
def _parsed(code: bytes) -> tuple[str, tuple[_Import, ...]]:
    # The digest of a module's syntax tree, and its imports: level, module and names. Each step asks for them again.
    with warnings.catch_warnings(action="ignore"):  # importing shows them, with the file
        tree = ast.parse(code)
    imports: list[_Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, tuple(alias.name.split(".")), ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            imports.append((node.level, module, tuple(alias.name for alias in node.names)))
    return _meaning(tree), tuple(imports)


_SILENT = ("ctx", "kind", "type_comment", "type_ignores")  # fields of syntax trees without an effect


def _meaning(tree: ast.AST) -> str:
    # The sha256 of a syntax tree, the same in every release of Python: without empty fields, as releases add optional
    # ones, and with the text of f-strings in one piece. A loop, as trees may be deeper than the stack.
    hashed = hashlib.sha256()
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.Constant):
            value: Any = hex(item.value) if type(item.value) is int else item.value  # a decimal text has a largest size
            text = f"{type(item.value).__name__} {value!a}"  # `repr` depends on the Unicode of the release
        elif isinstance(item, ast.AST):
            fields = [(name, value) for name, value in _fields(item) if name not in _SILENT and value not in (None, [])]
            waiting.append(")")
            for name, value in reversed(fields):
                waiting += [value, name]
            text = f"{type(item).__name__}("
        elif isinstance(item, list):
            waiting += ["]", *reversed(item)]
            text = f"{len(item)}["
        else:  # an identifier or a small number
            text = ascii(item)
        hashed.update(f"{text}\n".encode(errors="surrogatepass"))
    return hashed.hexdigest()


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, ast.JoinedStr):
        yield from ast.iter_fields(node)
        return
    parts: list[ast.expr] = []
    for part in node.values:
        if isinstance(part, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(str(parts[-1].value) + str(part.value))
        elif not isinstance(part, ast.Constant) or part.value:
            parts.append(part)
    yield "values", parts


def _imported(imports: tuple[_Import, ...], path: Path, folder: Path) -> list[Path]:
    # All files in `folder` that a module imports, at any level.
    modules: set[tuple[str, ...]] = set()
    for level, module, names in imports:
        here = path.parent.relative_to(folder).parts
        base = (*(here[: len(here) - level + 1] if level else ()), *module)
        modules |= {base, *((*base, name) for name in names)}
    imported: list[Path] = []
    for parts in modules:
        for length in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b first
            files = _files_of(folder.joinpath(*parts[:length]))
            imported += [file for file in files if "site-packages" not in file.parts]
    return imported


def _files_of(stem: Path) -> list[Path]:
    return [file for file in (stem / "__init__.py", stem.with_suffix(".py")) if file.is_file()]


def _check_neighbours(name: str, folder: Path) -> None:
    # Python has one module of a name: another folder's may be imported already.
    for file in (folder / relative for relative in sources(name)):
        parts = file.relative_to(folder).with_suffix("").parts
        module = sys.modules.get(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        origin = Path(getattr(module, "__file__", None) or file)
        if parts[0] in sys.stdlib_module_names or name.startswith(f"{file}:"):
            continue
        if origin.resolve() != file.resolve():
            raise UsageError(
                f"`{label(name)}` means {file} but Python has {origin} under that name already",
                "give one of them another name",
            )


def _load_file(file: Path) -> Any:
    # Loaded once, under a private name, so that a file called `random.py` shadows no other module.
    known = f"own_{file.stem}_{digest([str(file), file_digest(file)])[:8]}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]
