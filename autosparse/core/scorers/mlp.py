"""A small multilayer perceptron from a weight's features to its survival."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from autosparse.core.features import Features
from autosparse.core.scorers import scorers
from autosparse.core.weights import Tensors
from autosparse.lazy import torch
from autosparse.registry import Range

FeatureGroup = Literal["magnitude", "gradient", "sensitivity", "channels", "layer", "flow", "joins", "raw"]


def predict(state: Tensors, features: Features) -> Tensors:
    """Scores of every weight, layer -> `[weights]`, in chunks so that memory stays bounded."""
    columns = state["columns"]
    return {
        name: torch.cat([_forward(state, part[:, columns]) for part in values.split(65536)])
        for name, values in features.values.items()
    }


@scorers.register(predict=predict, groups=lambda options: options["features_used"])
def mlp(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    features_used: Annotated[tuple[FeatureGroup, ...], MinLen(1), "feature groups the scorer sees"] = (
        "magnitude",
        "gradient",
        "sensitivity",
        "channels",
        "layer",
    ),
    width: Annotated[int, Ge(1), Range(8, 128, log=True), "units of each hidden layer"] = 64,
    depth: Annotated[int, Ge(1), Range(1, 3), "hidden layers"] = 2,
    lr: Annotated[float, Gt(0), Range(1e-3, 3e-2, log=True), "learning rate of Adam"] = 5e-3,
    steps: Annotated[int, Ge(1), "updates"] = 300,
    batch: Annotated[int, Ge(1), "weights in an update, drawn from all layers alike"] = 2048,
) -> Tensors:
    """A multilayer perceptron, squared error on the share of rounds survived (AutoSparse, arXiv 2408.14757).

    Layers are drawn equally often, whatever their size: a scorer is carried to networks whose layers it
    has not seen, so a layer's facts matter more than its number of weights.
    """
    columns = torch.tensor([i for i, group in enumerate(features.columns) if group in features_used])
    tables = [values[:, columns] for values in features.values.values()]
    targets = [labels[name].float() for name in features.values]
    state = _initial(columns, width, depth, generator, tables[0].device)
    learned = [tensor.requires_grad_() for name, tensor in state.items() if name != "columns"]
    optimizer = torch.optim.Adam(learned, lr=lr)
    share = max(1, batch // len(tables))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        picks = [torch.randint(len(table), (share,), generator=generator).to(table.device) for table in tables]
        inputs = torch.cat([table[pick] for table, pick in zip(tables, picks, strict=True)])
        target = torch.cat([values[pick] for values, pick in zip(targets, picks, strict=True)])
        loss = torch.nn.functional.mse_loss(_forward(state, inputs), target)
        optimizer.zero_grad()
        loss.backward()
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
