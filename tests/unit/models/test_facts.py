"""Facts of a network without its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autosparse.core.allocation import macs
from autosparse.core.weights import describe_layers, total_of
from autosparse.models import build_model, facts, models
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
    devices = []

    def spy(identity: str, network: Any, shape: Any) -> Any:
        devices.append(next(network.parameters()).device.type)
        return trace(identity, network, shape)

    trace = facts._trace
    monkeypatch.setattr(facts, "_trace", spy)
    monkeypatch.setattr(facts, "_on_paper", lambda *_: False)
    result = network_facts({"name": name}, name, {}, (3, 32, 32), 7)
    monkeypatch.setattr(facts, "_on_paper", lambda *_: True)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "another"))

    assert result == network_facts({"name": name}, name, {}, (3, 32, 32), 7)
    assert ["cpu", "meta"] == devices


@pytest.mark.parametrize(
    ("parameters", "shape", "is_on_paper"),
    [(10, (3, 32, 32), False), (10**8, (3, 32, 32), True), (10, (3, 2**16, 2**16), True)],
)
def test_what_would_take_long_is_traced_on_paper(
    monkeypatch: pytest.MonkeyPatch, parameters: int, shape: tuple[int, int, int], is_on_paper: bool
) -> None:
    """By parameters and pixels; anything, once the compiler was imported."""
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    with torch.device("meta"):
        network = torch.nn.Linear(parameters, 1, bias=False)

    assert is_on_paper == facts._on_paper(network, shape)
    monkeypatch.setitem(sys.modules, "torch._dynamo", torch)
    assert facts._on_paper(network, shape)


def test_saved_bytes_by_hand() -> None:
    """A perceptron keeps for one image each layer's input, and the output's log-probabilities."""
    facts = network_facts({"name": "mlp"}, "mlp", {"widths": (5,)}, (1, 2, 2), 3)

    # 4 inputs and 5 hidden units (a ReLU keeps its output, which is the next layer's input), 3 log-probabilities
    # and one label of 8 bytes; the loss keeps one number for the whole batch of two.
    assert 4 * (4 + 5 + 3) + 8 <= facts.saved_bytes <= 4 * (4 + 5 + 3) + 8 + 4
