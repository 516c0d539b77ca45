"""The house: imports go one way, nothing hides in a cycle, modules stay few and of a size."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import autosparse
from autosparse.steps import operations

PACKAGE = Path(autosparse.__file__).parent
LAYERS = [
    {"errors", "lazy_torch", "packaged", "regular_file", "text"},
    {"borders"},
    {"registry", "pretrained", "foreign_code"},
    {"core", "store", "backends"},
    {"user_code"},
    {"models", "datasets", "exporters", "trackers"},
    {"steps"},
    {"spec"},
    {"measure"},
    {"planning"},
    {"cost"},
    {"execute"},
    {"report"},
    {"html"},
    {"console"},
    {"api"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ONLY = {"rich": "console", "typer": "cli", "optuna": "steps"}
FILES = sorted(PACKAGE.rglob("*.py"))
SHORTEST, LONGEST, SIBLINGS, FUNCTION = 25, 400, 15, 60


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def home(path: Path) -> str:
    """Return the top-level module or package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """Return the dotted name of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module(path): path for path in FILES}


def imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """Return the modules that a file imports; `everywhere` counts those inside functions too."""
    tree = parsed(path)
    nodes = ast.walk(tree) if everywhere else outside_functions(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run, or are type-checked, when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from outside_functions(node)


def test_imports_go_one_way() -> None:
    """A module imports its own package and lower layers, never a higher layer or a neighbour."""
    wrong = {}
    for path in FILES:
        package = home(path)
        parts = {name.split(".")[1] for name in imports(path) if name.startswith("autosparse.")} & set(RANK)
        allowed = {name for name, rank in RANK.items() if package == "__init__" or rank < RANK[package]} | {package}
        if higher := parts - allowed - ({"cli"} if package == "__main__" else set()):
            wrong[module(path)] = higher

    assert {} == wrong


def test_every_module_has_a_layer() -> None:
    """A new top-level module gets its layer here, on purpose."""
    assert {home(path) for path in FILES} - {"__init__"} == set(RANK)


def test_no_package_hides_a_cycle() -> None:
    """Modules of a package form no import cycle, imports for type checkers included; `__init__` only hands names on."""
    graph = {
        name: {other for other in imports(path, everywhere=False) if other in NAMES} - {name}
        for name, path in NAMES.items()
        if path.name != "__init__.py"
    }
    while free := {name for name, needed in graph.items() if not needed & graph.keys()}:
        graph = {name: needed for name, needed in graph.items() if name not in free}

    assert {} == {name: sorted(needed & graph.keys()) for name, needed in graph.items()}


@pytest.mark.parametrize("library", ONLY)
def test_a_library_has_one_home(library: str) -> None:
    """Only the console imports rich, only the cli typer, only tuning optuna."""
    users = {home(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path))}

    assert {ONLY[library]} == users


def test_torch_is_imported_only_where_networks_are_defined() -> None:
    """Everything else uses the proxy of `autosparse.lazy_torch`, so that plans never wait for torch."""
    users = {
        path.relative_to(PACKAGE).parts[:2]
        for path in FILES
        if any(name.split(".")[0] in ("torch", "torchvision") for name in imports(path))
    }

    adapters = {("models", "libraries.py"), ("datasets", "builtin.py")}
    adapters |= {("measure", "reference_loop.py")}  # a standard loop, with torchvision's transforms
    assert {("models", "networks.py"), ("lazy_torch.py",)} | adapters == users


def test_a_kind_of_step_is_named_where_it_lives() -> None:
    """No package but `steps`, and `plan/compile`, compares an operation with a name or asks for steps by one."""
    wrong = []
    for path in FILES:
        if home(path) == "steps" or module(path) == "autosparse.planning.compile":
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare) and "operation" in ast.unparse(node.left):
                values = [*ast.walk(node)]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".of", ".of_operation")):
                values = [item for argument in node.args for item in ast.walk(argument)]
            else:
                continue
            names = {item.value for item in values if isinstance(item, ast.Constant)} & {*operations.names}
            wrong += [f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}" for name in sorted(map(str, names))]

    assert [] == wrong, "\n".join(wrong)


def test_every_kind_of_step_is_whole() -> None:
    """Each has a function that counts its work, and a class that reads its artifacts."""
    assert [] == [(entry.name, fact) for entry in operations for fact in ("cost", "result") if fact not in entry.facts]


def test_modules_are_of_a_size() -> None:
    """Few, deep modules: of 25 to 400 lines without the docstrings of functions, at most 15 in a folder."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) - documented_in(path) for path in FILES}
    short = {path for path, count in lines.items() if count < SHORTEST} - {PACKAGE / "__main__.py"}
    siblings = Counter(path.parent for path in FILES if path.name != "__init__.py")

    assert [] == [module(path) for path, count in lines.items() if count > LONGEST]
    assert [] == [module(path) for path in short if path.name != "__init__.py"]
    assert {} == {folder.name: count for folder, count in siblings.items() if count > SIBLINGS}


def documented_in(path: Path) -> int:
    """Return the lines of the docstrings of a module's functions beyond one line each."""
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]
    return sum(max(0, documented(node) - 1) for node in functions)


def documented(node: ast.FunctionDef) -> int:
    """Return the lines of a function's docstring."""
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0


def test_functions_are_short() -> None:
    """None is above 60 lines, its docstring not counted."""
    long = [
        f"{module(path)}.{node.name}"
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno - documented(node) >= FUNCTION
    ]

    assert [] == long, "\n".join(long)
