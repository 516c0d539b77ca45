"""The same bytes in every cache, with any number of workers, whatever networks and datasets draw by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.core.criteria import criteria
from autosparse.core.presets import PRESETS
from autosparse.core.schedule import schedules
from autosparse.models import models
from tests.conftest import Workspace

NET = """\
import random, numpy, torch
from torch import nn
class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(shape[0], 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.drop, self.head = nn.Dropout(.3), nn.Linear(6, classes)
        self.scale = random.random() + float(numpy.random.rand())
    def forward(self, x):
        x = torch.relu(self.first(x))
        if not (self.training and random.random() < .3):
            x = x + self.scale * torch.relu(self.second(x)) * (1 + .1 * float(numpy.random.rand()))
        return self.head(self.drop(x.mean((2, 3))) + .01 * torch.rand(1))
def build(shape, classes): return Net(shape, classes)
"""
DATA = """\
import numpy, torch
def load():
    draw = lambda n: (torch.rand(n, 1, 6, 6), numpy.random.permutation(n) % 3)
    return draw(60), draw(20)
"""
SPEC = """\
model: {{name: "net.py:build"}}
dataset: {{name: "data.py:load", validation: 12}}
budget: [0.7]
irp: {{rounds: 2, per_round: 0.5}}
scorer: {{name: mlp, steps: 5}}
tuning: {{trials: 2}}
training: {{epochs: 2, batch: 16, crop: 0, flip: false, precision: float32}}
compare: [{compare}]
emit: [safetensors]
target: {{device: cpu, threads: 1}}
"""


def brief(name: str) -> str:
    """A preset in YAML, with few rounds and steps."""
    method = PRESETS[name][1]
    schedule = method["schedule"] if isinstance(method["schedule"], dict) else {"name": method["schedule"]}
    known = schedules[schedule["name"]].options
    few = {key: 2 for key in ("rounds", "steps") if key in known and known[key].default}
    options = ", ".join(f"{key}: {value}" for key, value in {**schedule, **few}.items()).replace("True", "true")
    criterion = method["criterion"] if isinstance(method["criterion"], str) else method["criterion"]["name"]
    return (
        f"{{name: my_{name}, criterion: {criterion}, allocation: {method['allocation']}, "
        f"selection: {method['selection']}, schedule: {{{options.replace('False', 'false')}}}}}"
    )


STEPS = ("data", "init", "irp", "label", "scorer", "mask", "shuffle", "train", "emit")


@pytest.mark.slow
def test_every_criterion_with_a_network_that_draws(tmp_path: Path) -> None:
    """Twice in fresh caches, one and two workers, and made again by force: every tensor of every step is the same."""
    chosen = {
        (method["criterion"] if isinstance(method["criterion"], str) else method["criterion"]["name"]): name
        for name, (_, method) in PRESETS.items()
    }
    assert {entry.name for entry in criteria} == set(chosen)
    text = SPEC.format(compare=", ".join([*map(brief, chosen.values()), brief("mask_search"), "dense"]))
    seen = []
    for number, arguments in enumerate(([], ["--set", "target.workers=2"])):
        workspace = Workspace(tmp_path / str(number))
        workspace.folder.mkdir()
        for name, content in {"net.py": NET, "data.py": DATA, "s.yaml": text}.items():
            (workspace.folder / name).write_text(content)
        ended = workspace.run("run", "s.yaml", "--out", "r", *arguments)
        assert 0 == ended.code, ended.err
        seen.append(workspace.digests(STEPS))

    assert len(seen[0]) > 30
    assert seen[0] == seen[1]
    ended = workspace.run("run", "s.yaml", "--out", "again", "--force", "train/dense/seed0")
    assert 0 == ended.code, ended.err
    assert "with identical bytes" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names)
def test_every_model(name: str, tmp_path: Path) -> None:
    """Every registered model has the same bytes in two fresh caches."""
    options = {"wide_resnet": ", depth: 10, widen: 1"}.get(name, ", width: 4")
    options = "" if name in ("lenet", "mlp", "vgg") else options
    text = (
        f"model: {{name: {name}{options}}}\ndataset: {{name: digits, images_per_class: 8, size: 16}}\nbudget: 0.5\n"
        "method: snip\ncompare: [dense]\ncontrols: []\nemit: [safetensors]\ntarget: {device: cpu, threads: 1}\n"
        "training: {epochs: 1, batch: 32, precision: float32}\n"
    )
    seen = []
    for number in range(2):
        workspace = Workspace(tmp_path / str(number))
        workspace.folder.mkdir()
        (workspace.folder / "s.yaml").write_text(text)
        ended = workspace.run("run", "s.yaml")
        assert 0 == ended.code, ended.err
        seen.append(workspace.digests(STEPS))

    assert seen[0]
    assert seen[0] == seen[1]
