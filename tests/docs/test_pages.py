"""Pages: links lead somewhere, commands run, programs are followed, YAML is valid, and facts of criteria hold."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from autosparse.core.criteria import criteria
from autosparse.packaged import shipped
from autosparse.spec import take_spec
from tests.conftest import Ended, Workspace, call
from tests.docs.follow import Block, blocks, follow
from tests.docs.reference import FOLDER, GENERATED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
PROGRAMS = (
    "tutorials/your_loop.md", "how-to/use_a_bundled_scorer.md", "how-to/python.md", "how-to/sparse_training.md",
)  # fmt: skip
EXTENDING = tuple(name for name in PAGES if name.startswith("how-to/add_a"))  # they change a copy of the source


def blocks_of(path: Path, kind: str) -> list[str]:
    """Return the blocks of a language on a page."""
    return [block.text for block in blocks(path) if block.kind == kind]


COMMANDS = {
    name: lines
    for name, path in PAGES.items()
    if name not in EXTENDING and name != "tutorials/your_images.md"
    if (lines := [line for text in blocks_of(path, "sh") for line in text.splitlines() if line[:11] == "autosparse "])
}


@pytest.mark.parametrize("path", [*PAGES.values(), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    """To existing files; the build of the site checks headings."""
    for link in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert not link or link.startswith("https://") or (path.parent / link).exists(), link


def test_pages_link_to_pages() -> None:
    """The site holds docs/ alone: no link leaves it."""
    for path in PAGES.values():
        for link in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).resolve().is_relative_to(DOCS), f"{path.name}: {link}"


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_current(name: str) -> None:
    """`python -m tests.docs.reference` writes them."""
    assert GENERATED[name]() == (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", criteria.names)
def test_every_criterion_has_a_page(name: str) -> None:
    """With its source, a formula, all of its options, and a spec that is valid."""
    entry, path = criteria[name], DOCS / "reference" / "criteria" / f"{name}.md"
    text = " ".join(path.read_text(encoding="utf-8").split())
    names = re.findall(r"[A-Z][a-z]+ (?:et al\. |& [A-Z]\w+ )?20\d\d|arXiv [\d.]+\d", entry.facts["source"])

    assert "$$" in text
    assert all(source in text for source in names), names
    assert all(f"`{option}`" in text for option in entry.options)
    for block in blocks_of(path, "yaml"):
        spec = take_spec(yaml.safe_load(f"version: 1\nmodel: resnet8\ndataset: digits\n{block}"), name).spec
        assert name in (spec.method.name, spec.method.criterion.name)


def test_pages_of_criteria_are_those_of_criteria() -> None:
    """A removed criterion has no page."""
    pages = {path.stem for path in (DOCS / "reference" / "criteria").glob("*.md")}

    assert {*criteria.names, "index"} == pages


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_run(here: Workspace, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """In order, in a folder with finished runs of the digits; `run` is planned."""
    shutil.copytree(ROOT / "tests" / "fixtures" / "runs", "runs")
    shutil.copy(shipped("specs")["digits"], "digits.yaml")
    for line in COMMANDS[name]:
        _, command, *arguments = shlex.split(line)
        if command == "run":
            check_steps(capsys, arguments)
            continue
        ended = call(capsys, shlex.join([command, *arguments]))
        assert 0 == ended.code, f"{line}: {ended.err}"


def check_steps(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Plan a run; the steps that its options name exist."""
    selecting = {at for at, word in enumerate(arguments) if word in ("--only", "--force")}
    rest = [word for at, word in enumerate(arguments) if not {at, at - 1} & selecting and word != "--quiet"]
    ended = call(capsys, shlex.join(["plan", *rest, *([] if "--json" in rest else ["--json"])]))
    assert 0 == ended.code, f"run {arguments}: {ended.err}"
    steps = [step["name"] for step in ended.json["steps"]]
    for at in selecting:
        assert any(fnmatch(step, arguments[at + 1]) for step in steps), arguments[at + 1]


@pytest.mark.parametrize("name", PAGES)
def test_yaml_on_pages_is_valid(name: str) -> None:
    """Whole specs, and parts of one."""
    for block in blocks(PAGES[name]):
        if block.kind == "yaml" and "npz" not in block.text:
            data = yaml.safe_load(block.text)
            assert take_spec({"version": 1, "model": "resnet8", "dataset": "digits", **data}, "page").spec


@pytest.mark.parametrize("name", PAGES)
def test_included_files_are_included(name: str) -> None:
    """No formatter took the mark of a snippet for Python."""
    assert "--8 <" not in PAGES[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_python_on_pages_compiles(name: str) -> None:
    """Programs of pages that no test follows too."""
    for block in blocks(PAGES[name]):
        if block.kind == "python":
            assert ast.parse(block.text)


def run_program(page: str, capsys: pytest.CaptureFixture[str], **paths: str) -> str:
    """Run the Python program of a page in this process, with other paths; return its output."""
    (program,) = blocks_of(PAGES[page], "python")
    for before, after in paths.items():
        assert before in program
        program = program.replace(before, after)
    capsys.readouterr()
    exec(program, {})
    return capsys.readouterr().out


def test_the_program_that_reads_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints one line for each pruned network."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "tests" / "fixtures" / "runs", "runs")

    assert re.fullmatch(r"(\S+ 0\.\d+ \d+\.\d+\n)+", run_program("reference/json.md", capsys))


def test_the_program_that_loads_a_model(
    finished: tuple[Workspace, Ended], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exported network takes images and returns logits."""
    monkeypatch.chdir(finished[0].folder)
    paths = {"digits-1": "small-1", "learned+50pct-0.98-seed0/compact": "learned-0.8-seed0/safetensors"}

    assert run_program("tutorials/digits.md", capsys, **paths) == "torch.Size([4, 10])\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTENDING)
def test_pages_about_extensions_are_followed(name: str, tmp_path: Path) -> None:
    """To the letter, in a copy of the source: their files, changes and commands; the last one uses the addition."""
    printed = follow(PAGES[name], tmp_path, source=True)
    written = [block for block in blocks(PAGES[name]) if block.file.startswith("autosparse/")]

    assert written, "the page adds nothing to the package"
    addition = re.findall(r"^def (\w+)\(", written[0].text, re.MULTILINE)[-1]
    assert any(addition in output for output in printed.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_tutorials_are_followed(name: str, tmp_path: Path) -> None:
    """Their programs run in order and print what the page shows."""
    page = PAGES[name]
    program = [block for block in blocks(page) if block.kind == "python"]

    printed = follow_without(page, tmp_path)

    assert len(program) == len(printed)


def follow_without(page: Path, folder: Path) -> dict[str, str]:
    """Follow the Python programs of a page; its commands are run by `test_commands_run`."""
    text = re.sub(r"^```sh\n.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    copy = folder / page.name
    copy.write_text(text, encoding="utf-8")
    return follow(copy, folder, source=False)


@pytest.mark.slow
def test_images_are_pruned_and_served(tmp_path: Path) -> None:
    """The tutorial from a folder of images to a server that answers with a label."""
    printed = follow(PAGES["tutorials/your_images.md"], tmp_path, source=False)

    assert any("3 classes: blue, green, red" in output for output in printed.values())
    assert any("photos/red/0.png  red  " in output for output in printed.values())
    with served(tmp_path) as address:
        for colour in ("blue", "green", "red"):
            picture = (tmp_path / "photos" / colour / "0.png").read_bytes()
            with urllib.request.urlopen(urllib.request.Request(address, data=picture), timeout=30) as answer:
                assert colour == json.load(answer)["label"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(urllib.request.Request(address, data=b"no picture"), timeout=30)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the server of the tutorial on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "served/serve.py", str(port)]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, server.stderr.read().decode() if server.stderr else ""
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.communicate()


def test_blocks_know_their_files(tmp_path: Path) -> None:
    """A line before a block says what it does to which file."""
    page = tmp_path / "page.md"
    page.write_text(
        "`a.py`:\n\n```python\nx\n```\n\nIn `b.py`:\n\n```diff\n-x\n```\n\n"
        "In `c.py`, at the end:\n\n```python\ny\n```\n\nSee `d.py`:\n\n```python\nz\n```\n\nText\n\n```sh\nls\n```\n"
    )

    assert [
        Block("python", "x\n", "a.py", "write"),
        Block("diff", "-x\n", "b.py", "change"),
        Block("python", "y\n", "c.py", "append"),
        Block("python", "z\n"),
        Block("sh", "ls\n"),
    ] == [*blocks(page)]


def test_yaml_in_the_readme_is_valid() -> None:
    """Its whole specs."""
    for block in blocks_of(ROOT / "README.md", "yaml"):
        if "model" in (data := yaml.safe_load(block)) and "dataset" in data:
            assert take_spec(data, "readme").spec
