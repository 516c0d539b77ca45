"""`prune` and `score`: right numbers, untouched models, and sentences for wrong uses."""

from __future__ import annotations

import copy
import itertools
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import autosparse
from autosparse.errors import AutosparseError, OwnCodeError, UsageError
from tests.unit.api.conftest import CRITERIA, METHODS, batches, in_brief, network


def linear(*rows: list[float]) -> nn.Linear:
    """A linear layer without bias."""
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.load_state_dict({"weight": torch.tensor(rows)})
    return layer


def test_snip_by_hand() -> None:
    """SNIP is |w g|, with g = (softmax - target) x; half of the weights are those with the largest."""
    model = linear([1.0, 0.0], [0.0, 2.0])
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([1])
    chance = torch.tensor([1.0, 4.0]).softmax(0) - torch.tensor([0.0, 1.0])
    expected = (model.weight.detach() * chance[:, None] * x).abs()

    torch.testing.assert_close(expected, autosparse.score(model, [(x, y)], criterion="snip")["weight"])
    masks = autosparse.prune(model, [(x, y)], sparsity=0.5, method="snip")
    assert [[True, False], [False, True]] == masks["weight"].tolist()


def test_own_loss_by_hand() -> None:
    """With the loss mean(outputs · y), |w g| is |w x y|."""
    model = linear([1.0, -2.0])
    x, y = torch.tensor([[3.0, 5.0]]), {"scale": torch.tensor([2.0])}

    scores = autosparse.score(model, [(x, y)], criterion="snip", loss=lambda out, y: (out[:, 0] * y["scale"]).mean())

    assert [[6.0, 20.0]] == scores["weight"].tolist()


def test_options_reach_the_criterion() -> None:
    """`score` takes the criterion's options; `images` says how many examples are looked at."""
    model, data = linear([1.0, 1.0], [1.0, -1.0]), [(torch.eye(2), torch.tensor([0, 1]))]

    one = autosparse.score(model, data, criterion="snip", images=1)["weight"]

    assert 0.0 == float(one[:, 1].abs().max())
    assert float(one[:, 0].abs().max()) > 0
    with pytest.raises(UsageError, match=r"unknown key `image` in `method\.criterion`"):
        autosparse.score(model, data, criterion="snip", image=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_counts_are_exact(method: str, sparsity: float) -> None:
    """Masks keep exactly round((1 - sparsity) total) weights, on every preset."""
    masks = autosparse.prune(network(), batches(), sparsity=sparsity, method=in_brief(method))

    assert round((1 - sparsity) * 264) == masks.kept
    assert ["0.weight", "5.weight"] == list(masks)
    assert {"0.bias": "a bias", "1.weight": "normalization", "1.bias": "normalization", "5.bias": "a bias"} == (
        masks.unprunable
    )


def test_a_mapping_is_a_method() -> None:
    """The four choices may be written out, as in a spec; a preset is one such mapping."""
    model = network()
    written = {
        "criterion": "synflow", "allocation": "global", "selection": "top",
        "schedule": {"name": "exponential", "rounds": 100},
    }  # fmt: skip

    assert 26 == autosparse.prune(model, sparsity=0.9, method={"criterion": "random"}).kept
    assert autosparse.prune(model, batches(), sparsity=0.9, method="synflow") == autosparse.prune(
        model, batches(), sparsity=0.9, method=written
    )


def everything(model: nn.Module) -> list[Any]:
    """All that a call could change of a model and of the caller's generators."""
    parameters = dict(model.named_parameters())
    return [
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: None if part.grad is None else part.grad.clone() for name, part in parameters.items()},
        [(id(part), part.data_ptr(), part.requires_grad, part._version) for part in parameters.values()],
        [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        torch.get_rng_state(),
        random.getstate(),
        str(numpy.random.get_state()),
    ]


def same(first: Any, second: Any) -> bool:
    """Return whether two nests are equal bit for bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


class Restless(nn.Module):
    """A network that draws from every global generator, keeps a count, and has one module in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.body[1].eval()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self.seen += 1
        output: Tensor = self.body(x + random.random() + float(numpy.random.rand()))
        return output


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_never_touched(method: str) -> None:
    """State, gradients, modes, own attributes and the caller's generators are byte for byte what they were."""
    model = Restless()
    model.body[0].weight.grad = torch.ones(4, 2, 3, 3)
    model.body[0].bias.requires_grad_(False)
    loader = DataLoader(TensorDataset(*(torch.cat(part) for part in zip(*batches(), strict=True))), 4, shuffle=True)
    before = everything(model)

    autosparse.prune(model, loader, sparsity=0.5, method=in_brief(method))

    assert same(before, everything(model))
    assert 0 == model.seen


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_seed_decides_everything(criterion: str) -> None:
    """Dropout, random scores and the order of a loader come from the seed, not from the caller's generators."""
    model = Restless()
    loader = DataLoader(TensorDataset(*(torch.cat(part) for part in zip(*batches(), strict=True))), 4, shuffle=True)
    first = autosparse.score(model, loader, criterion=criterion, seed=3)
    torch.rand(1), random.random(), numpy.random.rand()
    second = autosparse.score(model, loader, criterion=criterion, seed=3)

    assert same(first, second)
    if criterion not in ("magnitude", "synflow"):
        assert not same(first, autosparse.score(model, loader, criterion=criterion, seed=4))


@cache
def masks_outside() -> list[autosparse.Masks]:
    """Masks by every method, and by a random selection."""
    methods: list[Any] = [*map(in_brief, METHODS), {"criterion": "snip", "selection": "shuffle"}]
    return [autosparse.prune(network(), batches(), sparsity=0.5, method=method) for method in methods]


@pytest.mark.parametrize(
    "workspace",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
)
def test_scores_do_not_depend_on_where_they_are_asked_for(workspace: Callable[[], Any]) -> None:
    """Inside `no_grad`, `inference_mode`, `autocast` or another default device the masks are the same."""
    model, data = network(), batches()
    methods: list[Any] = [*map(in_brief, METHODS), {"criterion": "snip", "selection": "shuffle"}]
    expected = masks_outside()

    with workspace():
        outputs = [autosparse.prune(model, data, sparsity=0.5, method=method) for method in methods]

    assert expected == outputs


def test_batches_made_in_inference_mode() -> None:
    """Inputs that no gradient could pass are copied."""
    with torch.inference_mode():
        data = batches()

    assert autosparse.prune(network(), batches(), sparsity=0.5, method="snip") == autosparse.prune(
        network(), data, sparsity=0.5, method="snip"
    )


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_low_precision_is_scored_in_float32(precision: torch.dtype, method: str) -> None:
    """A model and batches in half precision get the masks of the same numbers in float32."""
    model = network().to(precision)
    low = [(x.to(precision), y) for x, y in batches()]
    high = [(x.float(), y) for x, y in low]
    expected = autosparse.prune(copy.deepcopy(model).float(), high, sparsity=0.8, method=in_brief(method))

    assert expected == autosparse.prune(model, low, sparsity=0.8, method=in_brief(method))
    assert model[5].weight.dtype == precision


def test_criteria_that_look_at_no_data_need_none() -> None:
    """Random and magnitude take no batch, and fetch none when they are given some."""
    model, fetched = network(), []

    def watched() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches():
            fetched.append(batch)
            yield batch

    for method in ("random", "erk", "magnitude"):
        assert autosparse.prune(model, sparsity=0.5, method=method) == autosparse.prune(
            model, watched(), sparsity=0.5, method=method
        )
    assert [] == fetched
    for method in ("snip", "grasp", "synflow"):
        with pytest.raises(UsageError, match="looks at examples, or at their shape, but there are no batches"):
            autosparse.prune(model, sparsity=0.5, method=method)


def test_synflow_looks_at_one_batch_for_its_shape() -> None:
    """SynFlow's masks do not depend on the values of the one batch that it takes."""
    model = network()

    assert autosparse.prune(model, iter(batches(1)), sparsity=0.9, method="synflow") == autosparse.prune(
        model, [(torch.randn(1, 2, 6, 6), None)], sparsity=0.9, method="synflow"
    )


@pytest.mark.parametrize(
    ("scorer", "sentence"),
    [
        (3, "a scorer is a folder or the name of a bundled one, but this is 3"),
        ("", "but this is ''"),
        ("~nobody-here/scorer", "~nobody-here/scorer cannot be found"),
        ("cifar_v1", "there is no folder cifar_v1"),
    ],
)
def test_wrong_scorers(scorer: Any, sentence: str) -> None:
    """A text that is neither a folder nor a name is an error with the known names."""
    with pytest.raises(UsageError) as caught:
        autosparse.prune(network(), batches(), 0.9, scorer=scorer)

    assert sentence in caught.value.message
    assert scorer == "~nobody-here/scorer" or "cifar-v1" in (caught.value.hint or "")


def test_a_sparsity_in_the_place_of_batches() -> None:
    """The error says so."""
    with pytest.raises(UsageError, match="`batches` must be batches") as caught:
        autosparse.prune(network(), 0.9)  # type: ignore[arg-type]
    assert "sparsity=0.95" in (caught.value.hint or "")


def test_labels_that_are_no_tensors_keep_a_batch_whole() -> None:
    """GraSP takes halves of a batch where it can be cut, and one that cannot as it is."""
    model, data = network(), batches()
    listed = [(x, y.tolist()) for x, y in data]
    method = {"criterion": {"name": "grasp", "temperature": 1.0}}

    def loss(outputs: Any, labels: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, torch.as_tensor(labels))

    whole = {"criterion": {"name": "grasp", "temperature": 1.0, "parts": 1}}
    assert autosparse.prune(model, listed, 0.9, method=method, loss=loss) == autosparse.prune(
        model, data, 0.9, method=whole, loss=loss
    )


def test_masks_are_learned_from_the_batches() -> None:
    """A search trains on the user's batches by the user's loss: other labels, other masks; none, an error."""
    method = {
        "criterion": "magnitude", "allocation": "erk", "selection": "top", "schedule": {"name": "search", "steps": 60},
    }  # fmt: skip
    model, data = network(), batches()
    before = everything(model)
    masks = autosparse.prune(model, data, sparsity=0.9, method=method)
    others = [(x, 2 - y) for x, y in data]

    assert 26 == masks.kept
    assert same(before, everything(model))
    assert masks == autosparse.prune(model, itertools.cycle(data), sparsity=0.9, method=method)
    assert masks != autosparse.prune(model, others, sparsity=0.9, method=method)
    assert masks == autosparse.prune(
        model, others, sparsity=0.9, method=method, loss=lambda out, y: nn.functional.cross_entropy(out, 2 - y)
    )
    with pytest.raises(UsageError, match="no batches"):
        autosparse.prune(model, sparsity=0.9, method=method)
    with pytest.raises(UsageError, match="ran out"):
        autosparse.prune(model, iter(data), sparsity=0.9, method=method)
    with pytest.raises(UsageError, match="must be at least 1 but is 0"):
        autosparse.prune(model, data, sparsity=0.9, method={**method, "schedule": {"name": "search", "steps": 0}})


def test_a_horizon_is_given_in_steps() -> None:
    """With steps to spend the same choices search; a share of a training is a spec's to know."""
    model, data = network(), batches()
    choices = {"criterion": "magnitude", "allocation": "erk"}
    searched = autosparse.prune(
        model, data, sparsity=0.9, method={**choices, "schedule": {"name": "search", "steps": 5}}
    )

    assert searched == autosparse.prune(model, data, sparsity=0.9, method={**choices, "horizon": 5})
    at_once = autosparse.prune(model, data, sparsity=0.9, method={**choices, "horizon": 0})
    assert at_once == autosparse.prune(model, data, sparsity=0.9, method=choices)
    with pytest.raises(UsageError, match="a horizon of 10% is a share of a training") as caught:
        autosparse.prune(model, data, sparsity=0.9, method={**choices, "horizon": "10%"})
    assert "`horizon: 300`" in (caught.value.hint or "")


def test_rounds_look_at_the_same_examples() -> None:
    """An iterator that gives each batch once serves a method of several rounds."""
    method = {"criterion": {"name": "snip", "images": 12}, "schedule": {"name": "linear", "rounds": 3}}
    endless = itertools.cycle(batches())

    masks = autosparse.prune(network(), endless, sparsity=0.8, method=method)

    assert masks == autosparse.prune(network(), batches(), sparsity=0.8, method=method)


@pytest.mark.parametrize(
    ("method", "sparsity", "sentence", "hint"),
    [
        ("snipp", 0.5, "`method` must be a method but is 'snipp'", "did you mean `snip`?"),
        ("snip", None, "`prune` needs a sparsity", "such as `sparsity=0.95`"),
        (
            {"criterion": "snip", "selection": "tuned"},
            0.5,
            "`method.selection` is the selection of a scorer, but criterion `snip` has none",
            "`selection: top`",
        ),
        ({"criterion": "snap"}, 0.5, "`method.criterion` must be a criterion but is 'snap'", "did you mean `snip`?"),
        ({"allocation": "erk"}, 0.5, "`method.criterion` is required", ""),
        ({"criterion": {"name": "snip", "images": 0}}, 0.5, "`method.criterion.images` must be at least 1", ""),
        ({"criterion": "snip", "rounds": 2}, 0.5, "unknown key `rounds` in `method`", "known here"),
        (3, 0.5, "`method` must be the name of a method, or a mapping with `criterion`", ""),
        ("snip", 1, "`sparsity` must be at least 0 and below 1 but is 1", "0.99 removes 99 %"),
        ("snip", 99, "`sparsity` must be at least 0 and below 1 but is 99", "for 99 % write 0.99"),
        ("snip", "0.9", "`sparsity` must be a number but is '0.9'", "0.99 removes"),
        ("snip", 0.995, "sparsity 0.995 leaves 1 of 264 weights for 2 layers", "at most 0.992424 leaves one in each"),
    ],
)
def test_wrong_requests(method: Any, sparsity: Any, sentence: str, hint: str) -> None:
    """An invalid request is an error in one sentence with its remedy, before the model is read."""
    with pytest.raises(UsageError) as caught:
        autosparse.prune(network(), batches(), sparsity=sparsity, method=method)

    assert sentence in caught.value.message
    assert hint in (caught.value.hint or "")


def test_models_without_prunable_weights() -> None:
    """The other parameters of a model are listed with the reasons."""
    model = nn.Sequential(nn.Embedding(4, 3), nn.LSTM(3, 3), nn.BatchNorm1d(3))

    with pytest.raises(UsageError) as caught:
        autosparse.prune(model, sparsity=0.5, method="random")

    assert (
        "the model has no prunable weight: an embedding (0.weight); recurrent (1.weight_ih_l0 and 3 more); "
        "normalization (2.weight and 1 more)"
    ) == caught.value.message
    with pytest.raises(UsageError, match="the model has no prunable weight: it has no parameters"):
        autosparse.prune(nn.ReLU(), sparsity=0.5, method="random")


def test_models_that_are_not_built_yet() -> None:
    """A lazy layer must meet a batch first."""
    with pytest.raises(UsageError, match="layer `1` is lazy: it has no weights before its first batch") as caught:
        autosparse.prune(nn.Sequential(nn.ReLU(), nn.LazyLinear(2)), sparsity=0.5, method="random")

    assert "run one batch through the model first" == caught.value.hint
    with pytest.raises(UsageError, match="layer `1` is lazy: it has no weights before its first batch"):
        autosparse.prune(nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d()), sparsity=0.5, method="random")


@pytest.mark.parametrize("method", METHODS)
def test_compiled_parts_are_scored_as_they_were_written(method: str) -> None:
    """A network of which a part, or all in place, is compiled has the names and masks of the plain one."""
    model = network()
    expected = autosparse.prune(model, batches(), sparsity=0.8, method=in_brief(method))
    model[0] = torch.compile(model[0], backend="eager")  # type: ignore[assignment]
    model.compile(backend="eager")

    assert expected == autosparse.prune(model, batches(), sparsity=0.8, method=in_brief(method))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_computed_weights_are_copied(criterion: str) -> None:
    """A weight norm of the older kind, which torch cannot copy by itself, stands in no way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that it will go
        normed = nn.utils.weight_norm(nn.Linear(2, 2))

    model, data = nn.Sequential(normed, nn.Linear(2, 3)), [(torch.ones(2, 2), torch.tensor([0, 2]))]
    scores = autosparse.score(model, data, criterion=criterion)

    assert ["1.weight"] == list(scores)


def test_models_that_cannot_be_copied() -> None:
    """Scoring needs a copy; if none is possible, the error has the reason."""
    model = network()
    model.lock = threading.Lock()  # type: ignore[assignment]

    with pytest.raises(UsageError, match=r"the model cannot be copied, .*: cannot pickle '_thread\.lock' object"):
        autosparse.prune(model, sparsity=0.5, method="random")


def test_what_is_no_model() -> None:
    """A model is a torch module on one device that has memory."""
    with pytest.raises(UsageError, match=r"must be a torch\.nn\.Module but is a dict"):
        autosparse.prune({}, sparsity=0.5, method="random")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tensors lie on meta, but scoring needs them on one device"):
        autosparse.prune(nn.Linear(2, 2, device="meta"), sparsity=0.5, method="random")


class Pair(nn.Module):
    """A network that returns two tensors in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits, and their sum."""
        return {"logits": self.head(x), "sum": self.head(x).sum()}


class Two(Pair):
    """A network that returns two tensors in a tuple."""

    def forward(self, x: Tensor) -> Any:
        """Logits, and their sum."""
        return tuple(super().forward(x).values())


def test_outputs_that_are_no_tensor() -> None:
    """Those called `logits` are scored, others are refused unless an own loss takes them; SynFlow sums all of them."""
    data = [(torch.ones(2, 2), torch.tensor([0, 1]))]

    def loss(outputs: dict[str, Tensor], y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], y)

    assert ["head.weight"] == list(autosparse.score(Pair(), data, criterion="snip"))
    with pytest.raises(UsageError, match="the network returns tuple, not the tensor of logits"):
        autosparse.score(Two(), data, criterion="snip")
    with pytest.raises(UsageError, match="a temperature of 200 divides"):
        autosparse.score(Pair(), data, criterion="grasp", loss=loss)
    assert ["head.weight"] == list(autosparse.score(Pair(), data, criterion="snip", loss=loss))
    assert ["head.weight"] == list(autosparse.score(Pair(), data, criterion="grasp", loss=loss, temperature=1.0))
    assert ["head.weight"] == list(autosparse.score(Pair(), data, criterion="synflow"))


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda outputs, y: outputs.sum(dim=1), r"must be one number, as a tensor, but is Tensor of shape \(8,\)"),
        (lambda outputs, y: float(outputs.detach().sum()), "must be one number, as a tensor, but is float"),
        (lambda outputs, y: outputs.detach().sum(), "does not depend on the prunable weights"),
    ],
)
def test_wrong_losses(loss: Callable[..., Any], sentence: str) -> None:
    """A loss is one number that depends on the weights."""
    with pytest.raises(UsageError, match=sentence):
        autosparse.prune(network(), batches(), sparsity=0.5, method="snip", loss=loss)


def test_scores_that_are_not_numbers() -> None:
    """Inputs that are not finite are reported with the criterion and the layer."""
    data = [(torch.full((4, 2, 6, 6), torch.inf), torch.tensor([0, 1, 2, 0]))]

    with pytest.raises(AutosparseError, match=r"criterion `snip` at sparsity 0\.5: 72 scores of layer 0\.weight"):
        autosparse.prune(network(), data, sparsity=0.5, method="snip")


def test_a_head_that_begins_at_zero() -> None:
    """Weights behind such a head are scored as if it carried signal, which a warning says; its scores stay zero."""
    head = nn.Linear(8, 2)
    nn.init.zeros_(head.weight)
    model = nn.Sequential(nn.Linear(2, 8), head)
    data = [(torch.ones(4, 2), torch.tensor([0, 1, 0, 0]))]

    with pytest.warns(autosparse.AutosparseWarning, match=r"1\.weight begins at zero"):
        masks = autosparse.prune(model, data, sparsity=0.5, method="snip")

    assert 16 == masks.kept
    assert not bool(head.weight.any())
    assert 0.0 == float(autosparse.score(model, data, criterion="snip")["0.weight"].abs().max())


def test_a_network_without_any_signal() -> None:
    """If no weight changes the loss, the error has a hint."""

    class Deaf(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 0

    with pytest.raises(AutosparseError, match=r"criterion `snip` at sparsity 0\.5: every weight has score 0") as caught:
        autosparse.prune(Deaf(2, 8), [(torch.ones(4, 2), torch.tensor([0, 1, 0, 0]))], sparsity=0.5, method="snip")

    assert "initialize the last layer otherwise" in str(caught.value.hint)


def test_errors_of_a_model_are_one_line() -> None:
    """The message of what the network raises names the layer, and the error itself is its cause."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))

    with pytest.raises(OwnCodeError, match="calling `Sequential` failed in layer `1`: RuntimeError: mat1") as caught:
        autosparse.prune(model, [(torch.ones(1, 2), torch.tensor([0]))], sparsity=0.5, method="snip")

    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_hint_is_shown_below_the_message() -> None:
    """Whoever calls from Python sees the remedy too."""
    with pytest.raises(UsageError) as caught:
        autosparse.prune(network(), batches(), sparsity=99, method="snip")

    assert ["hint: for 99 % write 0.99"] == caught.value.__notes__
