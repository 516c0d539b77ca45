"""Benchmarks: the page comes from the results, every row names its command and machine, every script exists."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_language import BANNED

ROOT = Path(__file__).parents[2]
BENCHMARKS, PAGE = ROOT / "benchmarks", ROOT / "docs" / "benchmarks.md"
RESULTS = sorted((BENCHMARKS / "results").glob("*.jsonl"))
SCRIPT = re.compile(r"benchmarks/(\w+\.py)")
pytestmark = pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    """Compare the page and the plots of a checkout with its results."""
    command = [sys.executable, str(root / "benchmarks" / "render.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_page_and_the_plots_match_the_results() -> None:
    """A fresh render equals the committed page, and no plot is older than its data."""
    ended = check(ROOT)

    assert (0, "") == (ended.returncode, ended.stderr)


def test_a_changed_result_makes_the_page_and_its_plot_stale(tmp_path: Path) -> None:
    """The check names both, and writes neither."""
    for name in ("benchmarks", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "scorers", "*.png")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    results = tmp_path / "benchmarks" / "results" / "scheduling.jsonl"
    results.write_text(results.read_text(encoding="utf-8").replace('"seconds": 350.2', '"seconds": 450.2'), "utf-8")

    ended = check(tmp_path)

    assert 1 == ended.returncode
    assert ["docs/plots/scale.svg", "docs/benchmarks.md"] == [line.split()[0] for line in ended.stderr.splitlines()]
    assert PAGE.read_bytes() == (tmp_path / "docs" / "benchmarks.md").read_bytes()


def test_pages_are_short() -> None:
    """The page has at most 145 lines, the list of scripts at most 60, a table at most eight rows."""
    page = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)

    assert 145 >= len(page.splitlines())
    assert 60 >= len((BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines())
    assert page.count("\n## ") == len(tables)
    assert 8 >= max(table.count("\n") - 2 for table in tables)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_row_names_its_command_and_machine(path: Path) -> None:
    """A row is a JSON object; scripts of its command exist; a note has at most two sentences."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    assert rows
    for row in rows:
        assert row["command"]
        assert row["machine"]
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"])
        assert 2 >= len(re.findall(r"[.!?](?:\s|$)", row.get("note", "")))
        for script in SCRIPT.findall(row["command"]):
            assert (BENCHMARKS / script).exists(), row["command"]


def test_sections_name_every_command_and_machine_of_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of transfer and comparison in a table, whichever row they come from; a missing command is named as such."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    labels = importlib.import_module("questions").LABELS
    networks = {"vgg": "VGG", "resnet20": "ResNet-20", "vgg_last_five": "VGG, other classes"}
    cells = importlib.import_module("cells").cells()
    page = PAGE.read_text(encoding="utf-8")

    missing = [
        (section.splitlines()[0], text)
        for section in page.split("\n## ")[1:]
        for cell in cells
        if f"\n| {labels.get(cell['method'])} |" in section
        and f"| {networks.get(cell['network'])} {cell['sparsity']} |" in section
        for text in (cell["command"], cell["machine"])
        if text not in section
    ]
    assert "Command: ." not in page
    assert [] == sorted(set(missing))


def test_the_gain_in_the_readme_follows_from_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a training of search over the best one-shot baseline, on both networks at 98 and 99 % sparsity."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    baselines = importlib.import_module("questions").ONE_SHOT
    module = importlib.import_module("cells")
    cells = module.cells()
    gains = []
    for network in ("vgg", "resnet20"):
        rows = [row for row in cells if row["network"] == network]
        for sparsity in (0.98, 0.99):
            best = max(module.mean_at(rows, name, sparsity) for name in baselines)
            searches = ("search_igq@50", "search_erk@50", "learned@50")
            gains += [module.mean_at(rows, name, sparsity) - best for name in searches]

    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{min(gains):.0f} to {max(gains):.0f} points better than the best one-shot baseline" in text


def test_rows_hold_only_measured_values() -> None:
    """No more folds than networks; the same script made every row of its command; no text where a number belongs."""
    rows = {path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in RESULTS}

    assert {2} == {row["folds"] for row in rows["ranks"] if row["held_out"] == "one of the networks"}
    assert [] == [row for row in rows["agreement"] if "pytest" in row["command"]]
    assert [1] == [row["parts"] for row in rows["sanity"] if row["method"] == "mask_search"]
    assert not [row for row in rows["training"] if row.get("sparsity") == "any"]


def test_the_readme_lists_every_script_and_every_file_of_results() -> None:
    """No script and no file is missing from the list."""
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b\w+\.py\b", text)) - {"test_agreement.py"}

    assert {path.name for path in BENCHMARKS.glob("*.py")} == named
    assert not [path.stem for path in RESULTS if f"`{path.stem}`" not in text and f"{path.name}`" not in text]
    assert set(SCRIPT.findall(PAGE.read_text(encoding="utf-8"))) <= named


def test_scripts_use_no_banned_phrase() -> None:
    """Docstrings and messages of scripts, and the list of scripts."""
    paths = [*BENCHMARKS.glob("*.py"), BENCHMARKS / "README.md"]

    assert [] == [(path.name, hit.group()) for path in paths for hit in BANNED.finditer(path.read_text("utf-8"))]
