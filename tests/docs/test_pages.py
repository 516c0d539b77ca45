"""Pages: links lead somewhere, commands run, YAML is valid, and what they say of criteria is so."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from autosparse.core.criteria import criteria
from autosparse.packaged import shipped
from autosparse.spec import take_spec
from tests.conftest import Workspace, call
from tests.docs.reference import PAGE, page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLLOWED = "adding_a_criterion.md"  # its commands need what it adds


def blocks(path: Path, kind: str) -> list[str]:
    """The blocks of a language on a page."""
    return [text for language, text in FENCE.findall(path.read_text(encoding="utf-8")) if language == kind]


COMMANDS = [(path.name, line) for path in PAGES if path.name != FOLLOWED for text in blocks(path, "sh")
            for line in text.splitlines() if line.startswith("autosparse ")]  # fmt: skip


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Targets are existing files and headings in them."""
    for link in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert not link or link.startswith("https://") or (path.parent / link).exists(), link


@pytest.mark.slow
def test_the_reference_is_made_from_the_models() -> None:
    """`python -m tests.docs.reference` writes it again."""
    assert page() == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", criteria.names)
def test_every_criterion_has_a_page(name: str) -> None:
    """With its source, a formula, all of its options, and a spec that is valid."""
    entry, path = criteria[name], DOCS / "criteria" / f"{name}.md"
    text = " ".join(path.read_text(encoding="utf-8").split())
    names = re.findall(r"[A-Z][a-z]+ (?:et al\. |& [A-Z]\w+ )?20\d\d|arXiv [\d.]+\d", entry.facts["source"])

    assert "$$" in text
    assert all(source in text for source in names), names
    assert all(f"`{option}`" in text for option in entry.options)
    for block in blocks(path, "yaml"):
        spec = take_spec(yaml.safe_load(f"version: 1\nmodel: resnet8\ndataset: digits\n{block}"), name).spec
        assert name in (spec.method.name, spec.method.criterion.name)


def test_pages_of_criteria_are_those_of_criteria() -> None:
    """None is left of one that went."""
    assert set(criteria.names) == {path.stem for path in (DOCS / "criteria").glob("*.md")}


@pytest.mark.parametrize("name", sorted({name for name, _ in COMMANDS}))
def test_commands_run(here: Workspace, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """One after another, in a folder with the runs that pages speak of; what would train is planned."""
    shutil.copytree(ROOT / "tests" / "fixtures" / "runs", "runs")
    shutil.copy(shipped("specs")["digits"], "digits.yaml")
    for line in (line for where, line in COMMANDS if where == name):
        _, command, *arguments = shlex.split(line)
        command = "plan" if command == "run" else command
        ended = call(capsys, shlex.join([command, *arguments]))
        assert 0 == ended.code, f"{line}: {ended.err}"


@pytest.mark.slow
def test_the_page_about_a_new_criterion_is_followed(tmp_path: Path) -> None:
    """To the letter, in a copy of the source: its function, its test, its commands."""
    source = DOCS / FOLLOWED
    for name in ("autosparse", "specs", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = source.read_text(encoding="utf-8")
    files = dict(re.findall(r"^`(\S+\.py)`:\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    ((path, function),) = re.findall(r"^In `(\S+\.py)`:\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    with (tmp_path / path).open("a", encoding="utf-8") as module:
        module.write(f"\n\n{function}")
    shutil.copy(tmp_path / "specs" / "digits.yaml", tmp_path / "digits.yaml")
    environment = {**os.environ, **Workspace(tmp_path).environment, "PYTHONPATH": str(tmp_path)}

    assert 1 == len(files)
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/core/test_lamp.py"]
    commands = [[sys.executable, "-m", *shlex.split(line)] for line in "".join(blocks(source, "sh")).splitlines()]
    for command in (test, *commands):
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert 0 == ended.returncode, ended.stdout + ended.stderr
        if "list" in command:
            assert "lamp" in ended.stdout


def test_yaml_in_the_readme_is_valid() -> None:
    """Whole specs of it at least."""
    for block in blocks(ROOT / "README.md", "yaml"):
        if "model" in (data := yaml.safe_load(block)) and "dataset" in data:
            assert take_spec(data, "readme").spec
