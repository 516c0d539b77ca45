"""`rewind: false` of a search: its artifact holds the trained weights, and the training continues from them."""

from __future__ import annotations

import pytest
import torch

from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import load_state
from autosparse.errors import DamagedArtifact
from autosparse.models import build_model
from autosparse.steps import check
from autosparse.steps.context import generator, load_images
from autosparse.steps.init import InitResult
from autosparse.steps.mask_result import read_masks
from autosparse.steps.train import TrainResult
from autosparse.store import Artifact, Store
from tests.conftest import Workspace
from tests.plans import compiled

SPEC = """\
model: {name: resnet8, width: 4}
dataset: digits
method: {name: kept, preset: mask_search, horizon: 6, schedule: {name: search, rewind: false}}
controls: [shuffle, layer_mean]
emit: []
budget: 0.7
target: {device: cpu, threads: 1}
training: {epochs: 1, batch: 256, lr: 0.05, crop: 0, flip: false, precision: float32}
compare: [{name: rewound, preset: mask_search, horizon: 6}]
"""


def test_training_continues_from_the_search(workspace: Workspace) -> None:
    """The trained network is the one of the loop, from the searched weights, bit for bit; a rewound one is another."""
    (workspace.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    workspace.run("run", "spec.yaml", "--quiet")
    plan, store = compiled(workspace.folder / "spec.yaml"), Store(workspace.cache)

    def opened(name: str) -> Artifact:
        step = plan.steps[name]
        return store.open(step.operation, step.key)

    kept, rewound = (read_masks(opened(f"mask/{name}/0.7/seed0")) for name in ("kept", "rewound"))
    assert all(torch.equal(kept.masks[name], rewound.masks[name]) for name in kept.masks)
    assert not rewound.read_state()
    model = build_model("resnet8", {"width": 4}, (1, 8, 8), 10)
    load_state(model, {**InitResult.read(opened("init/resnet8/seed0")).state, **kept.read_state()})
    images = load_images(opened("data/digits"), "train", torch.device("cpu"))
    recipe = Recipe(**plan.steps["train/kept/0.7/seed0"].options["training"])
    train(model, images, recipe, generator("train", 0), masks=kept.masks)
    trained = TrainResult.read(opened("train/kept/0.7/seed0")).state
    assert all(torch.equal(trained[name], tensor) for name, tensor in model.state_dict().items())
    other = TrainResult.read(opened("train/rewound/0.7/seed0")).state
    assert not all(torch.equal(trained[name], tensor) for name, tensor in other.items())
    controls = {cell.method for cell in plan.cells if cell.role == "control"}
    assert not controls, "masks and weights that were trained together have no shuffled control"


def test_a_changed_state_is_damage(workspace: Workspace) -> None:
    """Its artifact is checked whole, and a missing state is no artifact of a search that keeps its weights."""
    (workspace.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/kept/0.7/seed0")
    step = compiled(workspace.folder / "spec.yaml").steps["mask/kept/0.7/seed0"]
    artifact = Store(workspace.cache).open(step.operation, step.key)
    check(artifact)
    file = artifact.folder / "state.safetensors"
    data = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedArtifact):
        check(Store(workspace.cache).open(step.operation, step.key))
