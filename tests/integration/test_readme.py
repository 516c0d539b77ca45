"""The script that README.md shows for people with their own training loop."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def run(program: str, folder: Path) -> str:
    """Return the output of a program in another process."""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def scripts(title: str = "In your own training loop") -> list[str]:
    """The programs of a section, in order."""
    section = README.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_script_of_the_readme(tmp_path: Path) -> None:
    """At most fifteen lines prune at 0.95, train under a hold and save; a fresh process loads the same masks."""
    script = scripts()[0]
    check = "print(not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items()), masks)"

    printed = run(f"{script}\n{check}", tmp_path).splitlines()
    loaded = run("import autosparse; print(autosparse.Masks.load('masks.safetensors'))", tmp_path)

    assert len(script.splitlines()) <= 15
    assert f"True {loaded}" == printed[-1] + "\n"
    assert "Masks(2 weights, 370 of 7,400 kept: sparsity 0.95)\n" == loaded


@pytest.mark.slow
def test_the_script_that_runs_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the first network of the run, and masks of the sparsity that it asks for."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    (script,) = scripts("In Python")
    shutil.copytree(README.parent / "specs", tmp_path / "specs")

    printed = run(script, tmp_path)

    assert "sparsity 0.9499" in printed
    assert "'test_accuracy'" in printed


@pytest.mark.slow
def test_the_script_with_the_scorer_that_ships(tmp_path: Path) -> None:
    """Ten lines prune a network of torchvision that the scorer never saw, and nothing is downloaded."""
    script = scripts()[1]

    printed = run(f"{script}\nprint(masks.kept, round(0.02 * masks.total), masks)", tmp_path).splitlines()

    assert len([line for line in script.splitlines() if line]) <= 10
    kept, expected = printed[-1].split()[:2]
    assert kept == expected
