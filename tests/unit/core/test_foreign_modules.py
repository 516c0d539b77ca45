"""Modules that other people write: which weights are prunable, why others are not, and how they are called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import Inputs, tensors_in
from autosparse.core.torch_compat.function_overrides import twice_differentiable
from autosparse.core.weights import (
    Tensors,
    describe_layers,
    explain_unprunable,
    prunable_weights,
    unprunable,
)
from autosparse.errors import UsageError
from tests.unit.core.conftest import seeded
from tests.unit.core.test_evidence import Decoder, Tied

DATA = ["snip", "grasp"]
EVERY = [*DATA, "synflow"]


def scored(model: nn.Module, inputs: Inputs, criterion: str) -> Tensors:
    """A criterion's scores on one batch of four examples in two classes."""
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    evidence = Evidence(
        model=model,
        weights=weights,
        masks={name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()},
        layers=describe_layers(model, inputs),
        draw=lambda images: [(inputs, torch.tensor([0, 1, 1, 0]))],
        generator=seeded(),
        example=lambda: inputs,
    )
    scores: Tensors = criteria[criterion].function(evidence)
    return scores


def counts(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Return the number of uses of each weight in one forward pass."""
    return {layer.name: layer.positions for layer in describe_layers(model, inputs)}


class Branches(nn.Module):
    """Convolutions of every kind in one network for inputs `[images, 2, 6, 6]`."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(2, 4, 3, groups=2, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4, padding=1)
        self.transposed = nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.flat = nn.Conv1d(4, 3, 3)
        self.deep = nn.Conv3d(1, 2, 2)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.flat(self.transposed(self.depthwise(self.grouped(x))).flatten(2))
        output: Tensor = self.head(self.deep(x[:, None, :, :64].reshape(-1, 1, 3, 8, 8)).mean(dim=(2, 3, 4)))
        return output


@pytest.mark.parametrize("criterion", EVERY)
def test_convolutions_of_every_kind(criterion: str) -> None:
    """Grouped, depthwise, transposed, one- and three-dimensional convolutions have scores."""
    scores = scored(Branches(), torch.randn(4, 2, 6, 6), criterion)

    names = ["grouped", "depthwise", "transposed", "flat", "deep", "head"]
    assert [f"{name}.weight" for name in names] == list(scores)
    assert all(bool(values.any()) for values in scores.values())


def test_projections_of_attention_are_prunable() -> None:
    """Attention's projections are, as one weight or as three, and come before its output layer."""
    one, three = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2, kdim=3, vdim=5)

    assert ["in_proj_weight", "out_proj.weight"] == list(prunable_weights(one))
    assert ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"] == list(prunable_weights(three))
    assert {"in_proj_bias": "a bias", "out_proj.bias": "a bias"} == unprunable(one)
    assert {"in_proj_bias", "bias_k", "bias_v", "out_proj.bias"} == set(
        unprunable(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    )


def test_positions_of_attention() -> None:
    """A projection is used once a token of what it projects; projections that are one weight in the mean."""
    query, key = torch.ones(1, 5, 4), torch.ones(1, 8, 4)
    one = nn.MultiheadAttention(4, 2, batch_first=True)
    three = nn.MultiheadAttention(4, 2, kdim=3, vdim=6, batch_first=True)

    assert {"in_proj_weight": 5, "out_proj.weight": 5} == counts(one, (query, query, query))
    assert {"in_proj_weight": 7, "out_proj.weight": 5} == counts(one, {"query": query, "key": key, "value": key})
    assert [5, 9, 9, 5] == [*counts(three, (query, torch.ones(1, 9, 3), torch.ones(1, 9, 6))).values()]


def test_transformer_layers_are_measured_inside() -> None:
    """The fast path that calls no inner module is off while positions are counted, and on again after."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)

    assert {7} == set(counts(model, torch.ones(1, 7, 4)).values())
    assert 8 == len(prunable_weights(model))
    assert torch.backends.mha.get_fastpath_enabled()


class Transformer(nn.Module):
    """An encoder layer and the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.cross = nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Logits."""
        x = self.encoder(tokens)
        output: Tensor = self.head((x + self.cross(x, other, other)[0])[:, 0])
        return output


@pytest.mark.parametrize("criterion", EVERY)
@pytest.mark.parametrize("named", [False, True])
def test_attention_with_two_inputs_is_scored(criterion: str, named: bool) -> None:
    """Inputs go in by position or by name, and every projection has scores."""
    tokens, other = torch.randn(4, 3, 4), torch.randn(4, 5, 3)

    scores = scored(Transformer(), {"other": other, "tokens": tokens} if named else (tokens, other), criterion)

    assert 9 == len(scores)
    assert all(bool(values.isfinite().all()) for values in scores.values())
    # Of ones every token is the same, and then nothing but rounding depends on which of them attention looks at.
    unfelt = {"cross.q_proj_weight", "cross.k_proj_weight"} if criterion == "synflow" else set()
    highest = max(float(values.abs().max()) for values in scores.values())
    assert unfelt == {name for name, values in scores.items() if float(values.abs().max()) < 1e-9 * highest}


class Attend(nn.Module):
    """Functional attention, whose fast kernels have no second derivative, and a hard sigmoid, which has none."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        query, key, value = self.project(x)[:, None].chunk(3, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)[:, 0]
        output: Tensor = self.head(nn.functional.hardsigmoid(attended).mean(dim=1))
        return output


def test_grasp_differentiates_twice_what_torch_does_not() -> None:
    """Attention and hard sigmoids have GraSP scores."""
    scores = scored(Attend(), torch.randn(4, 3, 4), "grasp")

    assert all(bool(values.any()) for values in scores.values())


def test_the_form_of_hardsigmoid_is_the_same_function() -> None:
    """The substitute for a hard sigmoid has its values and its gradient."""
    x = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.hardsigmoid(x)
    with twice_differentiable():
        result = nn.functional.hardsigmoid(input=x)

    torch.testing.assert_close(expected, result)
    slopes = [torch.autograd.grad(value.sum(), x)[0] for value in (expected, result)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-7)


class Custom(nn.Module):
    """A raw parameter, a layer that is used twice, one that is not used, and a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.twice = nn.Linear(4, 4)
        self.idle = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.head(self.norm(self.twice(self.twice(x) @ self.scale)))
        return output


def test_own_modules() -> None:
    """Raw parameters are not prunable and say whose they are; a layer used twice has two positions."""
    model = Custom()

    assert {"twice.weight": 2, "idle.weight": 0, "head.weight": 1} == counts(model, torch.ones(1, 4))
    assert {
        "scale": "of Custom, which is neither a convolution nor a linear layer",
        "twice.bias": "a bias",
        "idle.bias": "a bias",
        "norm.weight": "normalization",
        "norm.bias": "normalization",
    } == unprunable(model)


def reasons(module: nn.Module) -> Mapping[str, str]:
    """Return the reasons why the parameters of a module are not prunable."""
    return unprunable(module)


def test_reasons() -> None:
    """Every kind of parameter that is not pruned has its reason."""
    frozen = nn.Linear(2, 2).requires_grad_(False)
    weight_norm = parametrizations.weight_norm(nn.Conv1d(2, 2, 1))

    assert {"weight": "frozen: requires_grad is False", "bias": "a bias"} == reasons(frozen)
    assert {"recurrent"} == set(reasons(nn.GRU(2, 3)).values()) == set(reasons(nn.LSTMCell(2, 3)).values())
    assert {"weight": "an embedding"} == reasons(nn.Embedding(2, 2)) == reasons(nn.EmbeddingBag(2, 2))
    assert {"weight": "normalization", "bias": "normalization"} == reasons(nn.GroupNorm(1, 2))
    assert {"weight": "complex", "bias": "a bias"} == reasons(nn.Linear(2, 2, dtype=torch.complex64))
    assert {
        "bias": "a bias",
        "parametrizations.weight.original0": "parametrized",
        "parametrizations.weight.original1": "parametrized",
    } == reasons(weight_norm)
    assert {} == prunable_weights(weight_norm)
    assert {} == reasons(nn.ReLU())


def test_older_parametrizations() -> None:
    """The weight norm of old and the masks of torch's own pruning are parametrizations too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that it will go
        old = nn.utils.weight_norm(nn.Linear(2, 2))
    pruned = prune.identity(nn.Linear(2, 2), "weight")

    assert {"bias": "a bias", "weight_g": "parametrized", "weight_v": "parametrized"} == reasons(old)
    assert {"bias": "a bias", "weight_orig": "parametrized"} == reasons(pruned)


def test_quantized_layers() -> None:
    """A layer that torch quantized has no parameter, and is listed by the name its weight had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that it will go
        model = nn.Sequential(nn.Linear(2, 2), torch.ao.nn.quantized.Linear(2, 2))

    assert {"0.bias": "a bias", "1.weight": "quantized"} == reasons(model)


def test_ties_name_their_first() -> None:
    """A tied weight says what it is tied to, be that prunable or not."""
    assert "tied to first.weight" == reasons(Tied())["second.weight"]
    assert "tied to head.weight" == reasons(Decoder())["embedding.weight"]
    embeddings = nn.ModuleList([nn.Embedding(2, 2), nn.Embedding(2, 2)])
    embeddings[1].weight = embeddings[0].weight
    assert {"0.weight": "an embedding", "1.weight": "tied to 0.weight"} == reasons(embeddings)
    shared = nn.Linear(2, 2)
    assert {"0.bias": "a bias", "1.weight": "tied to 0.weight", "1.bias": "tied to 0.bias"} == reasons(
        nn.Sequential(shared, shared)
    )


def test_an_embedding_that_shares_a_weight_costs_nothing() -> None:
    """Looking a token up is no multiplication: only the linear layer's use of a tied weight is counted."""
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3, bias=False))
    model[1].weight = model[0].weight

    assert {"1.weight": 5} == counts(model, torch.zeros(1, 5, dtype=torch.long))


def test_reasons_in_one_sentence() -> None:
    """Each reason appears with the first name that it holds for and the number of others."""
    model = nn.Sequential(nn.LSTM(2, 2), nn.Embedding(2, 2))

    assert "recurrent (0.weight_ih_l0 and 3 more); an embedding (1.weight)" == explain_unprunable(model)
    assert "it has no parameters" == explain_unprunable(nn.ReLU())


def test_layers_that_are_not_built() -> None:
    """A lazy layer is refused by name."""
    with pytest.raises(UsageError, match="layer `0` is lazy: it has no weights before its first batch"):
        prunable_weights(nn.Sequential(nn.LazyConv2d(2, 3)))


def test_layers_are_described_without_an_example() -> None:
    """Without an example nothing runs: facts of shapes are known, positions are 0."""
    (layer,) = describe_layers(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2)))

    assert ((6, 2, 3, 3), 18, 27, 2, 0) == (layer.shape, layer.fan_in, layer.fan_out, layer.stride, layer.positions)


class Recurrent(nn.Module):
    """An embedding, a recurrent layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.recurrent = nn.LSTM(3, 4, batch_first=True)
        self.normed = parametrizations.weight_norm(nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = self.embedding(tokens) if not tokens.is_floating_point() else tokens
        output: Tensor = self.head(self.normed(self.recurrent(x)[0][:, -1]))
        return output


@pytest.mark.parametrize("criterion", DATA)
def test_tokens_are_scored(criterion: str) -> None:
    """Networks of whole numbers with recurrent and parametrized layers have scores where they are prunable."""
    scores = scored(Recurrent(), torch.randint(0, 5, (4, 6)), criterion)

    assert ["head.weight"] == list(scores)
    assert bool(scores["head.weight"].any())


def test_synflow_takes_tokens_as_they_are() -> None:
    """Ones are no tokens: those of the first example go in, and the recurrent part takes floating inputs as well."""
    assert bool(scored(Recurrent(), torch.randint(0, 5, (4, 6)), "synflow")["head.weight"].all())
    assert bool(scored(Recurrent(), torch.randn(4, 6, 3), "synflow")["head.weight"].all())


def test_synflow_leaves_masks_of_tokens_alone() -> None:
    """A bool input says where, and is given as it is."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor, there: Tensor) -> Tensor:
            output: Tensor = self.head(x * there)
            return output

    model = Padded()
    scores = scored(model, (torch.zeros(1, 2), torch.tensor([[True, False]])), "synflow")

    assert [[float(model.head.weight.detach()[0, 0].abs()), 0.0]] == scores["head.weight"].tolist()


def test_no_batchnorm_and_linear_only() -> None:
    """A network of linear layers alone is scored by every criterion."""
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))

    for criterion in EVERY:
        tensors: Any = [*tensors_in(scored(model, torch.randn(4, 3), criterion))]
        assert [(4, 3), (2, 4)] == [tuple(values.shape) for values in tensors]
