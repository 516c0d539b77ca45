"""Layers that torch does not know: declared by name, or recognized as one of transformers'."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.graph.connectivity import dissect
from autosparse.core.layer_kinds import Kind, declare_layers
from autosparse.core.schedule import Pruning
from autosparse.core.selection import selections
from autosparse.core.weights import describe_layers, left_out, prunable_weights, total_of, unprunable
from autosparse.core.zero_scores import with_signal
from autosparse.errors import UsageError
from tests.unit.core.conftest import evidence_of

SCORED = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds", "needs_order"} & set(entry.facts)]


class Conv1D(nn.Module):
    """A linear layer of [inputs, outputs], as GPT-2 has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.1)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x @ self.weight + self.bias


class FewExperts(nn.Module):
    """Experts side by side in one tensor of [experts, outputs, inputs]."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 6, 8) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of what the experts give."""
        return torch.relu(torch.einsum("bi,eoi->beo", x, self.up)).mean(1)


class Words(nn.Module):
    """An embedding, a layer of another kind and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.hidden, self.experts = nn.Embedding(20, 8), Conv1D(8, 8), FewExperts()
        self.head = nn.Linear(6, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.hidden(self.words(tokens.long().abs() % 20)).mean(1))
        output: Tensor = self.head(self.experts(x))
        return output


ALL: Mapping[str, Kind] = {"hidden.weight": "transposed", "experts.up": "linear", "words": "embedding"}


def test_declared_layers_are_prunable() -> None:
    """Declared parameters are prunable in model order, read as layers are, and copies of the network keep that."""
    model = copy.deepcopy(declare_layers(Words(), ALL))

    layers = {layer.name: layer for layer in describe_layers(model, torch.ones(1, 4))}

    assert ["words.weight", "hidden.weight", "experts.up", "head.weight"] == list(prunable_weights(model))
    assert ((8, 8), 8, 8, True) == tuple(
        getattr(layers["hidden.weight"], part) for part in ("shape", "fan_in", "fan_out", "transposed")
    )
    assert ((18, 8), 8, 6, 3) == tuple(
        getattr(layers["experts.up"], part) for part in ("shape", "fan_in", "fan_out", "groups")
    )
    assert [0, 4, 1, 1] == [layer.positions for layer in layers.values()]


def test_channels_of_declared_layers() -> None:
    """A weight is spread to outputs and inputs whichever way its axes lie, and gathered in its own shape."""
    evidence = evidence_of(declare_layers(Words(), ALL), (4,))
    layers = evidence.layers_by_name

    for name, weight in evidence.weights.items():
        assert torch.equal(weight, layers[name].gather(layers[name].spread(weight), weight.shape))
    hidden, experts = evidence.weights["hidden.weight"], evidence.weights["experts.up"]
    assert torch.equal(hidden.t(), layers["hidden.weight"].spread(hidden)[0, :, :, 0])
    assert torch.equal(experts, layers["experts.up"].spread(experts)[..., 0])


@pytest.mark.parametrize(
    ("criterion", "allocation", "selection"),
    [
        *((criterion, "global", "top") for criterion in SCORED),
        *(("snip", allocation, "top") for allocation in ("erk", "er", "igq", "uniform")),
        *(("snip", "igq", entry.name) for entry in selections if entry.name not in ("top", "tuned")),
    ],
)
def test_every_method_prunes_declared_layers(criterion: str, allocation: str, selection: str) -> None:
    """Masks of every choice have exactly the ones that they should have, and can be dissected."""
    evidence = evidence_of(declare_layers(Words(), ALL), (4,))
    total = total_of(evidence.weights)
    pruning = Pruning(
        evidence, total, total // 3, with_signal(criteria[criterion].function), allocations[allocation].function,
        selections[selection].function,
    )  # fmt: skip

    masks = pruning.in_rounds([total // 3])

    assert {name: weight.shape for name, weight in evidence.weights.items()} == {n: m.shape for n, m in masks.items()}
    assert total // 3 == sum(int(mask.sum()) for mask in masks.values())
    assert dissect(evidence.masked(masks)).paths is not None


def test_exclusion() -> None:
    """Excluded layers are left whole, and the reason says so."""
    model = declare_layers(Words(), {"*.up": "linear"}, ["head"])

    assert ["experts.up"] == list(prunable_weights(model))
    assert "excluded" == unprunable(model)["head.weight"]


@pytest.mark.parametrize(
    ("prunable", "exclude", "sentence"),
    [
        ({"hiden.weight": "linear"}, [], "`prunable` names `hiden.weight`, which no parameter matches"),
        ({}, ["no.*"], r"`exclude` names `no\.\*`, which no parameter matches"),
        ({"hidden.bias": "linear"}, [], "`hidden.bias`, which has 1 dimension"),
    ],
)
def test_patterns_that_do_not_fit(prunable: Any, exclude: list[str], sentence: str) -> None:
    """A pattern without a parameter and a parameter without two dimensions are refused by name."""
    with pytest.raises(UsageError, match=sentence):
        declare_layers(Words(), prunable, exclude)


def test_much_that_is_left_out_is_said() -> None:
    """Over a tenth of the parameters in layers of unknown kinds makes a sentence, none where they are declared."""
    assert "left whole: hidden.weight and 1 more, of Conv1D" in left_out(Words())
    assert "" == left_out(declare_layers(Words(), ALL))
    assert "" == left_out(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2)))


def of_transformers(module: nn.Module, name: str) -> nn.Module:
    """A module of a class that says it is one of transformers'."""
    module.__class__ = type(name, (type(module),), {"__module__": "transformers.models.some"})
    return module


@pytest.mark.parametrize("transposed", [False, True])
def test_experts_of_transformers(transposed: bool) -> None:
    """Fused experts are read by their shapes: [experts, outputs, inputs], or inputs first."""
    module = nn.Module()
    up, down = torch.zeros(4, 2 * 6, 8), torch.zeros(4, 8, 6)
    module.gate_up_proj = nn.Parameter(up.mT if transposed else up)
    module.down_proj = nn.Parameter(down.mT if transposed else down)

    layers = {layer.name: layer for layer in describe_layers(of_transformers(module, "SomeExperts"))}

    assert [(8, 12), (6, 8)] == [(layer.fan_in, layer.fan_out) for layer in layers.values()]
    assert [transposed] * 2 == [layer.transposed for layer in layers.values()]


def test_layers_of_gpt2_and_xlnet() -> None:
    """transformers' `Conv1D` is [inputs, outputs]; XLNet's attention keeps heads apart."""
    attention = nn.Module()
    for name in "qkvor":
        setattr(attention, name, nn.Parameter(torch.zeros(8, 2, 4)))
    network = nn.ModuleDict(
        {"h": of_transformers(Conv1D(8, 6), "Conv1D"), "x": of_transformers(attention, "XLNetRelativeAttention")}
    )

    layers = {layer.name: (layer.shape, layer.transposed) for layer in describe_layers(network)}

    assert ((8, 6), True) == layers["h.weight"]
    assert [((8, 8), True)] * 4 == [layers[f"x.{name}"] for name in "qkvr"]
    assert ((8, 8), False) == layers["x.o"]
