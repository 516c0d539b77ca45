"""The installed wheel, with its specs and templates, away from the source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the built wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "wheel", *options, "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True)
    wheel = next(folder.glob("autosparse-*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "autosparse/shipped/specs/digits.yaml" in names
    assert "autosparse/shipped/templates/quickstart.yaml" in names
    assert not [name for name in names if name.startswith(("tests/", "specs/", "benchmarks/"))]
    subprocess.run([*pip, "install", *options, "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def command(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed autosparse in another folder, out of reach of the source checkout."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AUTOSPARSE_")},
        "PYTHONPATH": str(installed),
        "AUTOSPARSE_CACHE_DIR": str(folder / "cache"),
    }
    script = (
        "import autosparse, pathlib, sys; from autosparse.cli import main;"
        f" assert pathlib.Path(autosparse.__file__).is_relative_to({str(installed)!r}), autosparse.__file__;"
        " main(sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_wheel_plans_its_own_specs(installed: Path, tmp_path: Path) -> None:
    """In an empty folder the wheel writes a template and plans it, and finds the specs that ship with it."""
    init = command(installed, tmp_path, "init")
    plan = command(installed, tmp_path, "plan", "--json")
    cifar = command(installed, tmp_path, "plan", "specs/resnet_cifar.yaml", "--json")

    assert (0, 0, 0) == (init.returncode, plan.returncode, cifar.returncode), init.stderr + plan.stderr
    assert "autosparse" == json.loads(plan.stdout)["spec"]
    assert "using the bundled spec of that name" in cifar.stderr


def test_the_wheel_s_specs_find_their_code_beside_them_and_data_here(installed: Path, tmp_path: Path) -> None:
    """The example of own code is in the wheel; files of data are looked for below the current directory."""
    other_spec = command(installed, tmp_path, "plan", "specs/own_model.yaml", "--json")
    rendered = command(installed, tmp_path, "render", "specs/resnet20_cifar_all.yaml", "--json")

    assert 0 == other_spec.returncode, other_spec.stderr
    resolved = json.loads(rendered.stdout)["resolved"]
    assert str(tmp_path / "data" / "cifar10") == resolved["dataset"]["path"] == resolved["irp"]["dataset"]["path"]


def test_the_wheel_runs_the_digits_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """`autosparse run` with nothing around it runs the embedded spec to its end."""
    less = ("compare=[erk]", "controls=[]", "irp.rounds=3", "tuning.trials=2", "method=learned", "target.threads=1")
    smaller = [part for value in less for part in ("--set", value)]
    ended = command(installed, tmp_path, "run", "--json", "--budget", "0.95", *smaller)
    report = json.loads(ended.stdout)

    assert 0 == ended.returncode, ended.stderr
    assert "it ships with autosparse" in ended.stderr
    assert [0.95, 0.95] == [model["sparsity"] for model in report["emitted"]]
    best = max(result["test_accuracy"] for result in report["results"])
    assert best > 85, "the best method recognizes digits"
