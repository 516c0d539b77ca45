"""Multilayer perceptrons over a weight's features.

`paper` is the paper's, the reference to beat; `mlp` learns a weight's survival, `hazard` its survival round by round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, MinLen

from autosparse.core.features import Features, feature_groups
from autosparse.core.scorers._base import scorers
from autosparse.core.training.optimizers import adam
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import OneOf, Range

_WIDTHS = (2, 16, 64, 1024, 1024, 64, 1)
_CUTS = 64  # the most cut points: survival shares are few, unless rounds are many


def predict_paper(state: Tensors, features: Features) -> Tensors:
    """Return scores of every weight, layer -> `[weights]`, by the paper's perceptron.

    Args:
        state: State that `paper` returned.
        features: Feature table of group `raw`.

    Returns:
        Scores, layer -> float tensor `[weights]`.
    """
    network = _network()
    network.load_state_dict(state)
    network.to(next(iter(state.values())).device).eval()
    with torch.no_grad():
        return _in_chunks(features, 8192, lambda part: network(part).squeeze(1))


@scorers.register(
    predict=predict_paper,
    groups=lambda options: ("raw",),
    macs=lambda options, columns: _macs(_WIDTHS),
    source="AutoSparse, arXiv 2408.14757, section 3",
)
def paper(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    lr: Annotated[float, Gt(0), "learning rate of Adam"] = 0.01,
    steps: Annotated[int, Ge(1), "number of updates (the paper: ten epochs over all weights)"] = 1000,
    batch: Annotated[int, Ge(2), "batch size, in weights drawn uniformly from all weights"] = 1024,
) -> Tensors:
    """Train the paper's perceptron, 2-16-64-1024-1024-64-1 with BatchNorm, from w and g to the rounds survived.

    Squared error on their share, which is the authors' min-max scaled label: in every IRP some weight is pruned in the
    first round and some survives the last. The gradient g is the mean over a sample in training mode; the authors'
    is the sum over all training batches in evaluation mode. 1.2 million parameters: scoring costs 1.2 million
    multiply-adds a weight.

    Args:
        features: Feature table of the IRP's network, layer -> `[weights, columns]`.
        labels: Share of the rounds that each weight survives, in [0, 1], layer -> `[weights]`.
        generator: Source of all random draws, on the CPU.
        observe: Function that is called with the number of finished updates and their total.
        lr: Learning rate of Adam.
        steps: Number of updates.
        batch: Number of weights in an update, drawn uniformly from all weights.

    Returns:
        State of the scorer, name -> tensor, that its `predict` takes.

    References:
        AutoSparse, arXiv 2408.14757, section 3.
    """
    table = features.table()
    targets = torch.cat([labels[name].float().flatten() for name in features.values])
    chances = torch.cat([
        torch.full((len(values),), features.sizes.get(name, len(values)) / len(values))
        for name, values in features.values.items()
    ])  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        network = _network().to(table.device).train()
    optimizer = adam([*network.parameters()], lr)
    for step in range(steps):
        pick = chances.multinomial(batch, replacement=True, generator=generator).to(table.device)
        optimizer.descend(torch.nn.functional.mse_loss(network(table[pick]).squeeze(1), targets[pick]))
        observe(step + 1, steps)
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _network() -> torch.nn.Sequential:
    parts: list[torch.nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(_WIDTHS):
        parts += [torch.nn.Linear(fan_in, fan_out), torch.nn.BatchNorm1d(fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-2])


@dataclass(frozen=True)
class Loss:
    """Loss of a scorer.

    Attributes:
        of: Function of the scores and targets of a batch, both `[weights]`, that returns a scalar.
        learned: Parameters of the loss, dropped after training.
    """

    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    learned: tuple[torch.Tensor, ...] = ()


Make: TypeAlias = "Callable[[Sequence[torch.Tensor], torch.Generator], Loss]"


def ordinal(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Return the cumulative link loss: cross-entropy of sigmoid(score - cut) against reaching a share, by learned cuts.

    One cut per share; cuts rise with the share and are the same for all weights (CORAL: Cao, Mirjalili & Raschka 2020).
    Initially a score of zero predicts the fraction of weights that reach each share. Scores order weights without cuts.

    Args:
        targets: Labels of each layer, `[weights]`, in [0, 1].
        generator: Source of random draws.

    Returns:
        Loss of a batch with equally many weights of each layer, and its learned cuts.

    References:
        Cao, Mirjalili & Raschka 2020, arXiv 1901.07884 (CORAL).
    """
    shares = torch.cat([values.unique() for values in targets]).unique()[1:]
    if not len(shares):
        shares = torch.ones(1, device=targets[0].device)
    indices = torch.linspace(0, len(shares) - 1, min(len(shares), _CUTS)).round().long()
    levels = shares[indices.to(shares.device)]
    reached = torch.stack([(values[:, None] >= levels).float().mean(dim=0) for values in targets]).mean(dim=0)
    start = -reached.clamp(1e-3, 1 - 1e-3).logit()
    first = start[:1].clone().requires_grad_()
    gaps = start.diff().clamp_min(1e-3).expm1().log().requires_grad_()

    def of(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        cuts = torch.cat([first, first + torch.nn.functional.softplus(gaps).cumsum(0)])
        reaches = (target[:, None] >= levels).to(scores.dtype)
        return torch.nn.functional.binary_cross_entropy_with_logits(scores[:, None] - cuts, reaches)

    return Loss(of, (first, gaps))


def pairwise(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Return the logistic loss of pairs with different targets (RankNet: Burges et al. 2005).

    Half of the pairs are inside a layer, the other half between two layers, if the network has several.

    Args:
        targets: Labels of each layer, `[weights]`, in [0, 1].
        generator: Source of random draws.

    Returns:
        Loss of a batch with equally many weights of each layer.

    References:
        Burges et al. 2005, "Learning to rank using gradient descent" (RankNet).
    """
    layers = len(targets)

    def of(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        table, truth = scores.view(layers, -1), target.view(layers, -1)
        # Picks are drawn independently: a neighbour is as good as any other.
        value = _pairs(table, truth, table.roll(1, 1), truth.roll(1, 1))
        if layers > 1:
            apart = int(torch.randint(1, layers, (), generator=generator))
            value = (value + _pairs(table, truth, table.roll(apart, 0), truth.roll(apart, 0))) / 2
        return value

    return Loss(of)


def _pairs(
    scores: torch.Tensor, targets: torch.Tensor, other_scores: torch.Tensor, other_targets: torch.Tensor
) -> torch.Tensor:
    sign = (targets - other_targets).sign()
    each = torch.nn.functional.softplus(-sign * (scores - other_scores)) * sign.abs()
    return each.sum() / sign.abs().sum().clamp_min(1)


if TYPE_CHECKING:
    FeatureGroup = str
else:
    FeatureGroup = Literal[feature_groups.names]

FeaturesUsed = Annotated[tuple[FeatureGroup, ...], MinLen(1), "input feature groups"]
Width = Annotated[int, Ge(1), Range(8, 128, log=True), "number of units per hidden layer"]
Depth = Annotated[int, Ge(1), Range(1, 3), "number of hidden layers"]
LearningRate = Annotated[float, Gt(0), Range(1e-3, 3e-2, log=True), "learning rate of Adam"]
Steps = Annotated[int, Ge(1), "number of updates"]


def predict(state: Tensors, features: Features) -> Tensors:
    """Return scores of every weight, layer -> `[weights]`, by `mlp` or `hazard`.

    Args:
        state: State that `mlp` or `hazard` returned.
        features: Feature table with the columns of the state.

    Returns:
        Scores, layer -> float tensor `[weights]`.
    """
    return _in_chunks(features, 65536, lambda part: _forward(state, part[:, state["columns"]]))


def _in_chunks(features: Features, size: int, score: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    # In chunks, to bound memory.
    return {name: torch.cat([*map(score, values.split(size))]) for name, values in features.values.items()}


def _macs(widths: Sequence[int]) -> int:
    return sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(widths))


def _macs_of_mlp(options: Mapping[str, Any], columns: int) -> int:
    return _macs([columns, *[options["width"]] * options["depth"], 1])


def _learn(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None],
    make_loss: Make,
    *,
    features_used: Sequence[str],
    width: int,
    depth: int,
    lr: float,
    steps: int,
    batch: int,
) -> Tensors:
    # A perceptron after `steps` updates by Adam, whose learning rate falls to zero; layers are drawn equally often.
    columns = torch.tensor([i for i, group in enumerate(features.columns) if group in features_used])
    tables = [values[:, columns] for values in features.values.values()]
    targets = [labels[name].float() for name in features.values]
    device = tables[0].device
    state: Tensors = {}
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise([len(columns), *[width] * depth, 1])):
        spread = (2 / fan_in) ** 0.5
        state[f"{number}.weight"] = (torch.randn(fan_out, fan_in, generator=generator) * spread).to(device)
        state[f"{number}.bias"] = torch.zeros(fan_out, device=device)
    loss = make_loss(targets, generator)
    optimizer = adam([*(tensor.requires_grad_() for tensor in state.values()), *loss.learned], lr)
    share = max(1, batch // len(tables))
    for step in range(steps):
        optimizer.lr = lr * (1 - step / steps)
        picks = [torch.randint(len(table), (share,), generator=generator).to(table.device) for table in tables]
        inputs = torch.cat([table[pick] for table, pick in zip(tables, picks, strict=True)])
        target = torch.cat([values[pick] for values, pick in zip(targets, picks, strict=True)])
        optimizer.descend(loss.of(_forward(state, inputs), target))
        observe(step + 1, steps)
    return {"columns": columns.to(device)} | {name: tensor.detach() for name, tensor in state.items()}


def _forward(state: Tensors, inputs: torch.Tensor) -> torch.Tensor:
    layers = sum(name.endswith(".weight") for name in state)
    hidden = inputs
    for number in range(layers):
        hidden = torch.nn.functional.linear(hidden, state[f"{number}.weight"], state[f"{number}.bias"])
        if number < layers - 1:
            hidden = hidden.relu()
    return hidden.squeeze(1)


_LOSSES: Mapping[str, Make] = {
    "squared": lambda *_: Loss(torch.nn.functional.mse_loss),  # scores are shares of rounds
    "ordinal": ordinal,
    "pairwise": pairwise,
}


@scorers.register(predict=predict, groups=lambda options: options["features_used"], macs=_macs_of_mlp)
def mlp(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    features_used: FeaturesUsed = ("magnitude", "gradient", "sensitivity", "channels", "layer"),
    width: Width = 64,
    depth: Depth = 2,
    lr: LearningRate = 5e-3,
    steps: Steps = 300,
    batch: Annotated[int, Ge(1), "batch size, in weights drawn equally from all layers"] = 2048,
    loss: Annotated[
        Literal["squared", "ordinal", "pairwise"],
        OneOf(("squared", "ordinal", "pairwise"), when_named=True),
        "loss on the fraction of rounds survived: squared error, ordinal cross-entropy with learned cut points (Cao et "
        "al. 2020), or pairwise logistic loss within and across layers (Burges et al. 2005)",
    ] = "squared",
) -> Tensors:
    """Train an MLP, by default by squared error on the fraction of rounds survived (AutoSparse, arXiv 2408.14757).

    Layers are drawn equally often, whatever their size: a scorer is applied to networks with unseen layers,
    so a layer's facts matter more than its number of weights.

    Args:
        features: Feature table of the IRP's network, layer -> `[weights, columns]`.
        labels: Share of the rounds that each weight survives, in [0, 1], layer -> `[weights]`.
        generator: Source of all random draws, on the CPU.
        observe: Function that is called with the number of finished updates and their total.
        features_used: Feature groups that the scorer sees.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        lr: Initial learning rate of Adam; it falls to zero.
        steps: Number of updates.
        batch: Number of weights in an update, drawn from all layers alike.
        loss: Loss of the share of rounds survived: `squared` error, `ordinal` or `pairwise`.

    Returns:
        State of the scorer, name -> tensor, that its `predict` takes.

    Examples:
        >>> table = torch.linspace(0, 1, 20)[:, None]
        >>> features = Features(("magnitude",), {"fc.weight": table})
        >>> generator = torch.Generator().manual_seed(0)
        >>> state = mlp(features, {"fc.weight": table[:, 0]}, generator, features_used=["magnitude"], steps=50)
        >>> scores = predict(state, features)["fc.weight"]
        >>> bool(scores[-1] > scores[0])
        True

    References:
        AutoSparse, arXiv 2408.14757. Losses: Cao, Mirjalili & Raschka 2020, arXiv 1901.07884; Burges et al. 2005.
    """
    return _learn(
        features, labels, generator, observe, _LOSSES[loss],
        features_used=features_used, width=width, depth=depth, lr=lr, steps=steps, batch=batch,
    )  # fmt: skip


@scorers.register(
    predict=predict,
    groups=lambda options: options["features_used"],
    macs=_macs_of_mlp,
    progressive=True,
    source="Cox 1972; Gensheimer & Narasimhan 2019",
)
def hazard(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    features_used: FeaturesUsed = ("magnitude", "gradient", "sensitivity", "channels", "layer", "remaining"),
    width: Width = 64,
    depth: Depth = 2,
    lr: LearningRate = 5e-3,
    steps: Steps = 300,
    batch: Annotated[int, Ge(1), "batch size, in weights drawn equally from all layers and rounds"] = 2048,
) -> Tensors:
    """Learn the log-odds of surviving a round, given the network before the round: for schedules of several rounds.

    A discrete-time hazard: cross-entropy over the surviving weights, in every described round. The network of a round
    is the initial one under the masks that the round begins with, its gradient taken there.

    Args:
        features: Feature tables at the start of each round, layer and round -> `[weights, columns]`.
        labels: 1 for weights that survive the round, else 0, layer and round -> `[weights]`.
        generator: Source of all random draws, on the CPU.
        observe: Function that is called with the number of finished updates and their total.
        features_used: Feature groups that the scorer sees.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        lr: Initial learning rate of Adam; it falls to zero.
        steps: Number of updates.
        batch: Number of weights in an update, drawn from all layers of all rounds alike.

    Returns:
        State of the scorer, name -> tensor, that its `predict` takes.

    References:
        Cox 1972, "Regression models and life-tables"; Gensheimer & Narasimhan 2019, PeerJ 7:e6257.
    """
    return _learn(
        features, labels, generator, observe, lambda *_: Loss(torch.nn.functional.binary_cross_entropy_with_logits),
        features_used=features_used, width=width, depth=depth, lr=lr, steps=steps, batch=batch,
    )  # fmt: skip
