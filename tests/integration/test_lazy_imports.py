"""Processes that import neither torch nor its compiler where they can do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import autosparse
from autosparse.models import identify_model
from autosparse.store.sealed import seal
from tests.conftest import Ended, Workspace
from tests.unit.models.test_external import SHAPE
from tests.unit.planning.test_budgets import BASE
from tests.unit.report.test_frontier import report_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_importing_imports_no_torch() -> None:
    """`import autosparse` imports neither torch nor pydantic, though it names `prune`."""
    program = "import sys, autosparse; print([name in sys.modules for name in ('torch', 'pydantic')], dir(autosparse))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[False, False] " in ended.stdout
    assert {"prune", "score", "Masks"} <= set(autosparse.__all__)


def test_looking_at_every_option_imports_no_torch() -> None:
    """Lists and help texts never wait for torch."""
    script = (
        "import sys\n"
        "from autosparse.spec import Spec\n"
        "from autosparse.models import models\n"
        "from autosparse.core.criteria import criteria\n"
        "from autosparse.core.scorers import scorers\n"
        "print(len([entry.options for kind in (models, criteria, scorers) for entry in kind]))\n"
        "print(sorted({'torch', 'optuna', 'torchvision', 'sklearn', 'safetensors.torch'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == ended.stdout.splitlines()[1]


@pytest.mark.slow
def test_no_weight_is_drawn_on_paper() -> None:
    """Whichever way a network draws it; torch would import its compiler for that."""
    code = (
        "import sys, torch; from autosparse.models.facts import _nothing_drawn\n"
        "with torch.device('meta'), _nothing_drawn():\n"
        "    layer = torch.nn.Linear(3, 2); init = torch.nn.init; weight = layer.weight\n"
        "    init.normal_(weight), init.uniform_(weight), init.kaiming_normal_(weight), init.trunc_normal_(weight)\n"
        "    init.xavier_normal_(weight), weight.data.normal_(0, 1), torch.nn.Embedding(3, 2)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False\n" == ended.stdout


@pytest.mark.slow
def test_a_second_look_does_not_import_torch(tmp_path: Path) -> None:
    """Facts are remembered: a plan of a known network takes a moment. No plan imports torch's compiler."""
    code = (
        "import sys; from autosparse.models.facts import network_facts; "
        "total = network_facts({'name': 'resnet8'}, 'resnet8', {}, (3, 32, 32), 10).total; "
        "print(total, 'torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )

    assert "77360 True False\n" == first
    assert "77360 False False\n" == second


def test_a_second_plan_does_not_import_torch() -> None:
    """Budgets are translated by the remembered facts of a network."""
    Path("spec.yaml").write_text(BASE + "budget: [0.9, {parameters: 52}, {macs: 100}]\n")
    code = (
        "import sys; from pathlib import Path; from autosparse.backends import this_machine; "
        "from autosparse.planning.budgets import translations; from autosparse.planning.compile import compile_plan; "
        "from autosparse.spec import load_spec, resolve; "
        "spec = resolve(load_spec(Path('spec.yaml')).spec, this_machine()); "
        "print(translations(compile_plan(spec, 'spec'))[1].kept, 'torch' in sys.modules)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )

    assert ("37 True\n", "37 False\n") == (first, second)


def test_a_first_plan_on_a_busy_machine_does_not_import_torch() -> None:
    """Its times follow from counted work, its dense trainings are those of an idle machine."""
    Path("spec.yaml").write_text("version: 1\nmodel: resnet8\ndataset: digits\n")
    code = (
        "import sys; from pathlib import Path; from autosparse.backends import this_machine; "
        "from autosparse.cost.fit import fit_plan; from autosparse.cost.rates import Calibration; "
        "from autosparse.spec import load_spec; from autosparse.store import Store, open_index; "
        "from tests.plans import known_rates; "
        "store, slowdown = Store(Path('cache', sys.argv[1])), float(sys.argv[1]); "
        "calibration = Calibration(slowdown=lambda threads: slowdown, idle_cores=lambda: 0) "
        "if slowdown > 1 else known_rates(); "
        "fitted = fit_plan(load_spec(Path('spec.yaml')).spec, this_machine(), 'spec', store, open_index(store), "
        "calibration=calibration); "
        "print(fitted.trainings, {e.basis for e in fitted.estimates.values()}, 'torch' in sys.modules)"
    )
    ended = [
        subprocess.run([sys.executable, "-c", code, slowdown], capture_output=True, text=True, check=True).stdout
        for slowdown in ("6", "1")
    ]

    trainings, basis = ended[0].split(" ", 1)
    assert trainings == ended[1].split()[0]
    assert "{'counted work'} False\n" == basis


SCRIPT = """
import json, sys
from autosparse.cli import main
try:
    main(["plan", "small.yaml", "--quiet", "--json", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in ("torch", "torchvision", "timm", "numpy") if name in sys.modules]), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t", "net.py:build"])
def test_a_network_is_traced_once(workspace: Workspace, name: str) -> None:
    """Only a network that was never seen before is built: after that a plan waits for no library."""
    lines = ["from torch import nn", "def build(s, c): return nn.Sequential(nn.Flatten(), nn.Linear(3072, c))"]
    (workspace.folder / "net.py").write_text("\n".join(lines))
    identity = identify_model(name, {}, SHAPE, 10)
    overrides = (f"model={name}", "dataset={name: cifar10, root: nowhere}")
    workspace.remember_rates("small.yaml", *overrides)
    for file in (workspace.cache / "memory").glob("network-*.json"):
        file.unlink()  # rates are known, the network is not
    command = [sys.executable, "-c", SCRIPT, *(f"--set={override}" for override in overrides)]
    first, ended = (
        subprocess.run(
            command, cwd=workspace.folder, env=workspace.environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )

    assert "torch" in json.loads(first.stderr.splitlines()[-1])  # for the network's layers, which the budget is told in
    assert [] == json.loads(ended.stderr.splitlines()[-1])
    assert any(step["operation"] == "init" for step in json.loads(ended.stdout)["steps"])
    assert identity == identify_model(name, {}, SHAPE, 10)


def test_nothing_of_the_compiler_is_imported() -> None:
    """A training is over before torch's classes would have made their first step."""
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)

    assert "True False" == ended.stdout.strip()


_PROGRAM = """
import sys, torch
from autosparse.core.images import Images
from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
images = Images(torch.zeros((4, 4, 4, 1), dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), torch.zeros(1), torch.ones(1))
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
train(network, images, Recipe(epochs=1, batch=2, crop=0, precision="float32"), torch.Generator().manual_seed(1))
print("torch.optim.sgd" in sys.modules, "torch._dynamo" in sys.modules)
"""


def test_a_thousand_results_are_drawn_without_torch(tmp_path: Path) -> None:
    """By a command that reads a run folder, in another process; every method is a row."""
    folder = tmp_path / "runs" / "big-1"
    folder.mkdir(parents=True)
    report = report_of({f"m{number}": (number / 10, [90.0 + number / 20] * 50) for number in range(20)})
    (folder / "report.json").write_bytes(seal(report.json()))
    (folder / "plan.json").write_text("{}")
    script = "import sys; from autosparse.cli import main; main(['report', 'big-1']); assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)

    assert 1000 == len(report.results)
    assert 0 == ended.returncode, ended.stderr
    assert all(f" m{number} " in ended.stdout for number in range(20))


def test_a_thousand_results_are_shown_without_torch(finished: tuple[Workspace, Ended]) -> None:
    """Reports are read where nothing is trained."""
    script = (
        "import sys, json\nfrom autosparse.report.schema import Report\n"
        "from autosparse.console.report import show_report\n"
        "found = json.load(sys.stdin)\nfound['results'] = found['results'] * 100\n"
        "show_report(Report.of(found))\nassert 'torch' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(finished[1].json), capture_output=True, text=True, check=False
    )

    assert (0, "") == (ended.returncode, ended.stderr)
