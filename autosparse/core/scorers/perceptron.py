"""A multilayer perceptron over a weight's features: what scorers that learn one have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from autosparse.core.features import Features, feature_groups
from autosparse.core.scorers.losses import Loss
from autosparse.core.updates import Adam, forget_gradients
from autosparse.core.weights import Tensors
from autosparse.lazy import torch
from autosparse.registry import Range

if TYPE_CHECKING:
    FeatureGroup = str
else:
    FeatureGroup = Literal[feature_groups.names]

FeaturesUsed = Annotated[tuple[FeatureGroup, ...], MinLen(1), "feature groups the scorer sees"]
Width = Annotated[int, Ge(1), Range(8, 128, log=True), "units of each hidden layer"]
Depth = Annotated[int, Ge(1), Range(1, 3), "hidden layers"]
LearningRate = Annotated[float, Gt(0), Range(1e-3, 3e-2, log=True), "learning rate of Adam"]
Steps = Annotated[int, Ge(1), "updates"]


def predict(state: Tensors, features: Features) -> Tensors:
    """Scores of every weight, layer -> `[weights]`, in chunks so that memory stays bounded."""
    columns = state["columns"]
    return {
        name: torch.cat([_forward(state, part[:, columns]) for part in values.split(65536)])
        for name, values in features.values.items()
    }


def begin(
    features: Features, groups: Sequence[str], width: int, depth: int, generator: torch.Generator
) -> tuple[Tensors, list[torch.Tensor]]:
    """A perceptron that has not learned, and the tables of its columns, of one layer after another."""
    columns = torch.tensor([i for i, group in enumerate(features.columns) if group in groups])
    tables = [values[:, columns] for values in features.values.values()]
    return _initial(columns, width, depth, generator, tables[0].device), tables


def learn(
    state: Tensors,
    tables: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
    loss: Loss,
    generator: torch.Generator,
    observe: Callable[[int, int], None],
    *,
    lr: float,
    steps: int,
    batch: int,
) -> Tensors:
    """The perceptron after `steps` updates by Adam, whose learning rate falls to zero; every table is drawn alike."""
    learned = [tensor.requires_grad_() for name, tensor in state.items() if name != "columns"] + [*loss.learned]
    optimizer = Adam(learned, lr)
    share = max(1, batch // len(tables))
    for step in range(steps):
        optimizer.lr = lr * (1 - step / steps)
        picks = [torch.randint(len(table), (share,), generator=generator).to(table.device) for table in tables]
        inputs = torch.cat([table[pick] for table, pick in zip(tables, picks, strict=True)])
        target = torch.cat([values[pick] for values, pick in zip(targets, picks, strict=True)])
        value = loss.of(_forward(state, inputs), target)
        forget_gradients(learned)
        value.backward()
        optimizer.step()
        observe(step + 1, steps)
    return {name: tensor.detach() for name, tensor in state.items()}


def _initial(
    columns: torch.Tensor, width: int, depth: int, generator: torch.Generator, device: torch.device
) -> Tensors:
    sizes = [len(columns), *[width] * depth, 1]
    state: Tensors = {"columns": columns.to(device)}
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        spread = (2 / fan_in) ** 0.5
        state[f"{number}.weight"] = (torch.randn(fan_out, fan_in, generator=generator) * spread).to(device)
        state[f"{number}.bias"] = torch.zeros(fan_out, device=device)
    return state


def _forward(state: Tensors, inputs: torch.Tensor) -> torch.Tensor:
    layers = sum(name.endswith(".weight") for name in state)
    hidden = inputs
    for number in range(layers):
        hidden = torch.nn.functional.linear(hidden, state[f"{number}.weight"], state[f"{number}.bias"])
        if number < layers - 1:
            hidden = hidden.relu()
    return hidden.squeeze(1)
