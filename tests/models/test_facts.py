"""What is known of a network on paper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autosparse.core.cost import macs
from autosparse.core.weights import describe_layers, total_of
from autosparse.models import build_model, models
from autosparse.models.facts import LayerFacts, network_facts

NAMES = [entry.name for entry in models if entry.pattern is None]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_those_of_the_network(name: str) -> None:
    """Layers, parameters and multiply-adds on paper are those of the network that is built."""
    facts = network_facts({"name": name}, name, {}, (3, 16, 16), 7)

    network = build_model(name, {}, (3, 16, 16), 7)
    layers = describe_layers(network, torch.zeros(1, 3, 16, 16))
    assert tuple(LayerFacts(layer.name, layer.size, layer.positions) for layer in layers) == facts.layers
    assert total_of(dict(network.named_parameters())) == facts.parameters
    assert macs(layers) == facts.macs
    assert facts.saved_bytes > 0
    assert facts.live_bytes > 0


@pytest.mark.parametrize("name", ["resnet8", "mobilenet", "mlp", "torchvision:convnext_tiny"])
def test_a_large_network_is_known_as_well(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced where no number is computed, with the same facts."""
    found = network_facts({"name": name}, name, {}, (3, 32, 32), 7)
    monkeypatch.setattr("autosparse.models.facts._SMALL", 0)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "another"))

    assert found == network_facts({"name": name}, name, {}, (3, 32, 32), 7)


def test_saved_bytes_by_hand() -> None:
    """A perceptron keeps for one image each layer's input, and the output's log-probabilities."""
    facts = network_facts({"name": "mlp"}, "mlp", {"widths": (5,)}, (1, 2, 2), 3)

    # 4 inputs and 5 hidden units (a ReLU keeps its output, which is the next layer's input), 3 log-probabilities
    # and one label of 8 bytes; the loss keeps one number for the whole batch of two.
    assert 4 * (4 + 5 + 3) + 8 <= facts.saved_bytes <= 4 * (4 + 5 + 3) + 8 + 4


def test_a_second_look_does_not_import_torch(tmp_path: Path) -> None:
    """What was found is remembered: a plan of a known network is made in a moment. No look imports torch's compiler."""
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
