"""Docstrings of the public API: examples that run, and sections that agree with the signatures."""

from __future__ import annotations

import ast
import doctest
import importlib
import textwrap
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import autosparse
from autosparse.core.criteria import criteria
from autosparse.spec import spec_schema

griffe: Any = pytest.importorskip("griffe", reason="needs the extra `docs`")

PACKAGE = Path(autosparse.__file__).parent
MODULES = (
    "api.batches", "api.checkpoint", "api.example", "api.export", "api.exported", "api.hold", "api.load", "api.masks",
    "api.prune", "api.runs.plan", "api.runs.records", "api.runs.report", "api.runs.run",
    "api.selftest", "core.criteria.curvature", "core.criteria.data_free", "core.criteria.sensitivity",
    "core.criteria.survival", "core.criteria.tangent_kernel", "core.evidence",
    "core.scorers._base", "core.scorers.perceptron", "core.scorers.quota", "datasets._base", "errors",
    "exporters._base", "models._base", "planning.compile", "planning.model", "registry", "store.artifact",
    "store.fingerprints", "store.local",
)  # fmt: skip
FAMILIES = ("core.allocation", "core.schedule", "core.selection")
"""Modules whose registered functions are public, next to others that are not."""
FUNCTIONS = ("core.allocation.macs", "core.selection.keep_top", "spec.load.load_spec")
SECTIONS = {"parameters": "Args", "returns": "Returns", "raises": "Raises", "examples": "Examples"}


@cache
def package() -> Any:
    """Return griffe's tree of the package, with parsed docstrings."""
    return griffe.load("autosparse", search_paths=[PACKAGE.parent], docstring_parser="google")


def functions_in(holder: Any) -> Iterator[Any]:
    """Yield the public functions and methods of a module or class, without properties."""
    for name, member in holder.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_class:
            yield from functions_in(member)


def public() -> dict[str, Any]:
    """Return every public function by path."""
    every = [function for module in MODULES for function in functions_in(package()[module])]
    for module in FAMILIES:
        every += [
            one for one in functions_in(package()[module]) if any("register" in str(d.value) for d in one.decorators)
        ]
    every += [package()[path] for path in FUNCTIONS]
    return {function.path: function for function in every}


def sections_of(item: Any) -> dict[str, Any]:
    """Return the sections of a docstring by name; admonitions, such as references, have their title's."""
    assert item.docstring is not None, f"{item.path} has no docstring"
    return {
        section.value.kind if section.kind.value == "admonition" else section.kind.value: section.value
        for section in item.docstring.parsed
    }


def raised_in(function: Any) -> set[str]:
    """Return the names of the errors that leave a function from its body."""
    tree = ast.parse(textwrap.dedent(function.source))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    caught = {
        id(inner): {name.id for handler in block.handlers for name in ast.walk(handler.type or handler)
                    if isinstance(name, ast.Name)}
        for block in blocks for statement in block.body for inner in ast.walk(statement)
    }  # fmt: skip
    return {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        and {node.exc.func.id, "Exception"}.isdisjoint(caught.get(id(node), ()))
    }  # fmt: skip


def names_in(section: Any) -> list[str]:
    """Return the names of the parameters in a section."""
    return [parameter.name.lstrip("*") for parameter in section]


@pytest.mark.parametrize("path", sorted(public()))
def test_sections_agree_with_the_signature(path: str) -> None:
    """Args in the order of the signature, Returns unless None, Raises for each error that the function raises."""
    function = public()[path]
    sections = sections_of(function)
    expected = [
        parameter.name.lstrip("*") for parameter in function.parameters if parameter.name not in ("self", "cls")
    ]
    errors = {str(error.annotation) for error in sections.get("raises", ())}

    assert expected == names_in(sections.get("parameters", ()))
    assert (str(function.returns) != "None") == bool({"returns", "yields"} & sections.keys())
    assert raised_in(function) <= errors


@pytest.mark.parametrize("module", MODULES)
def test_constructors_have_args(module: str) -> None:
    """The docstring of a class describes the parameters of its `__init__`, or the fields of a dataclass if any."""
    for holder in package()[module].members.values():
        if holder.is_alias or not holder.is_class or holder.name.startswith("_") or "__init__" not in holder.members:
            continue
        sections = sections_of(holder)
        expected = [parameter.name for parameter in holder.members["__init__"].parameters if parameter.name != "self"]

        if "dataclass" in holder.labels:
            assert [attribute.name for attribute in sections.get("attributes", ())] in ([], expected), holder.path
        else:
            assert expected == names_in(sections.get("parameters", ())), holder.path


def test_public_names_have_examples() -> None:
    """Every function and class of `autosparse.__all__` but the errors, and every criterion."""
    for name in sorted({*autosparse.__all__} - {"__version__", "AutosparseError", "AutosparseWarning"}):
        value = getattr(autosparse, name)

        assert "examples" in sections_of(package()[f"{value.__module__}.{value.__qualname__}".partition(".")[2]])
    for entry in criteria:
        sections = sections_of(package()[f"core.criteria.{entry.name}"])

        assert {"examples", "references"} <= sections.keys(), entry.name


def test_public_names_are_few_and_in_the_reference() -> None:
    """At most twenty, each with an entry on the page; none is a module, whose import would hide it."""
    page = (PACKAGE.parent / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    for name in {*autosparse.__all__} - {"__version__"}:
        value = getattr(autosparse, name)

        assert f"::: {value.__module__}.{value.__qualname__}\n" in page
        assert f"[`{name}`]" in page
        assert not [*PACKAGE.glob(f"{name}.py"), *PACKAGE.glob(f"{name}/__init__.py")]
    assert len(autosparse.__all__) <= 20


def test_sections_stay_out_of_the_json_schema() -> None:
    """A choice's description is the text before the first section."""
    schema = spec_schema()
    texts = {name: about.get("description", "") for name, about in schema["$defs"].items()}

    assert texts["criterion_snip"] == "Score by |w g|, the sensitivity of the loss to a weight."
    assert [] == [name for name, text in texts.items() for title in SECTIONS.values() if f"{title}:" in text]


def examples_of(module: ModuleType) -> Iterator[doctest.DocTest]:
    """Yield the examples of a module, one test for each docstring."""
    yield from (test for test in doctest.DocTestFinder().find(module) if test.examples)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(one, marks=pytest.mark.slow if one.startswith("api.runs") else ())  # they train networks
        for one in (*MODULES, *FAMILIES, "spec.load")
    ],
)
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each docstring's example alone, in an empty folder, with the output that it shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for test in examples_of(importlib.import_module(f"autosparse.{module}")):
            runner.run(test, out=report.append)

    assert not report, "".join(report)
