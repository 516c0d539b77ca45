"""The standard loop is a fair one, and `bench` prints measured values."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autosparse.backends import Placement, this_machine
from autosparse.console.models import show_bench
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights
from autosparse.cost.bench import Bench, Trained, measure_speed
from autosparse.cost.fit import fit_plan
from autosparse.errors import MissingRequirement
from autosparse.measure.probe import made_up_images
from autosparse.measure.reference_loop import Pictures, accuracy_plainly, train_plainly
from autosparse.models import build_model
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from tests.plans import DIGITS, known_rates

IMAGES = made_up_images(24, (3, 8, 8), 4, torch.device("cpu"))
RECIPE = Recipe(epochs=3, batch=24, lr=0.05, crop=0, flip=False, precision="float32", schedule="one_cycle")


def network() -> torch.nn.Module:
    """A small one, the same every time."""
    torch.manual_seed(0)
    return build_model("resnet8", {"width": 4}, (3, 8, 8), 4)


@pytest.mark.parametrize("masked", [False, True])
def test_the_plain_loop_is_the_same_training(masked: bool) -> None:
    """In float32, without augmentation and with one batch an epoch, both loops end with the same weights."""
    ours, plain = network(), network()
    draw = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(w.shape, generator=draw) < 0.5 for name, w in prunable_weights(ours).items()}
    train(ours, IMAGES, RECIPE, torch.Generator(), masks=masks if masked else None)
    train_plainly(plain, IMAGES, RECIPE, masks=masks if masked else None, readers=0)

    for name, weight in prunable_weights(plain).items():
        torch.testing.assert_close(prunable_weights(ours)[name], weight, rtol=1e-3, atol=1e-4)
        assert not masked or not bool(weight[~masks[name]].any())
    assert accuracy(ours, IMAGES, "float32") == pytest.approx(accuracy_plainly(copy.deepcopy(ours), IMAGES), abs=5)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images_normalized(channels: int) -> None:
    """A DataLoader would give what whole batches are, grey images too; augmented ones are moved and mirrored."""
    images = made_up_images(6, (channels, 8, 8), 4, torch.device("cpu"))
    result = torch.stack([Pictures(images)[number][0] for number in range(6)])

    torch.testing.assert_close(images.normalize(images.pixels[:]), result)  # type: ignore[index]
    torch.manual_seed(0)
    assert any(not torch.equal(Pictures(images, crop=2, flip=True)[number][0], result[number]) for number in range(6))


def test_without_images_there_is_nothing_to_measure(store: Store, tmp_path: Path) -> None:
    """A plan that does not know its networks yet says what to do first."""
    absent = [f"dataset={{name: parquet, path: {tmp_path}/none}}", "target.threads=1"]
    spec = load_spec(DIGITS, overrides=absent).spec
    fitted = fit_plan(spec, this_machine(), "digits", store, open_index(store), calibration=known_rates())

    with pytest.raises(MissingRequirement, match="the networks are unknown until the images are present"):
        measure_speed(fitted.plan, fitted.price, Placement("cpu", 1), rounds=1, say=print)


def test_what_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians with their spread, ratios, and shares of the peak, a network a line; one round has no spread."""
    monkeypatch.setenv("COLUMNS", "80")
    trained = Trained("net", 64, "float32", (30.0, 50.0, 40.0), (10.0, 10.0, 10.0), 5e9, 0.25)
    about = {"processor": "a processor", "device": "cpu", "threads": 1, "torch": "2.14"}
    wide = Trained("resnet20", 128, "bfloat16", (2953.0, 2917.0, 2987.0), (1421.0, 1398.0, 1429.0), 5e11, 0.56)
    show_bench(Bench({"float32": 2e10}, (trained, wide), "net", {"mlp": 2e6}), about)
    lines = capsys.readouterr().out
    shown = " ".join(lines.split())
    assert any(line.startswith("resnet20 128 bfloat16  1421 (1398–1429)") for line in lines.splitlines())
    show_bench(Bench({"float32": 2e10}, (replace(trained, rates=(30.0,), plain=(10.0,)),), "net", {}), about)

    assert "a processor, cpu, 1 thread, torch 2.14 matrix product, GFLOP/s: float32 20" in shown
    assert all(printed in shown for printed in ("4.00", "40 (30–50)", "25 %", "2M", "3 rounds"))
    assert "one round" in capsys.readouterr().out
