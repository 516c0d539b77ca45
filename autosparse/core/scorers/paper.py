"""The paper's scorer: a wide perceptron on two raw numbers of a weight, the reference to beat."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Gt

from autosparse.core.features import Features
from autosparse.core.scorers._base import scorers
from autosparse.core.training.optimizers import adam
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch

_WIDTHS = (2, 16, 64, 1024, 1024, 64, 1)
_CHUNK = 8192


def predict(state: Tensors, features: Features) -> Tensors:
    """Scores of every weight, layer -> `[weights]`, in chunks so that memory stays bounded."""
    network = _network()
    network.load_state_dict(state)
    network.to(next(iter(state.values())).device).eval()
    with torch.no_grad():
        return {
            name: torch.cat([network(part).squeeze(1) for part in values.split(_CHUNK)])
            for name, values in features.values.items()
        }


@scorers.register(predict=predict, groups=lambda options: ("raw",), source="AutoSparse, arXiv 2408.14757, section 3")
def paper(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    lr: Annotated[float, Gt(0), "learning rate of Adam"] = 0.01,
    steps: Annotated[int, Ge(1), "updates; the authors go over all weights ten times"] = 1000,
    batch: Annotated[int, Ge(2), "weights in an update, drawn from all weights alike"] = 1024,
) -> Tensors:
    """The paper's perceptron, 2-16-64-1024-1024-64-1 with BatchNorm, from w and g to the share of rounds survived.

    Squared error on the share, which is the authors' min-max scaled label: in every IRP some weight falls in the
    first round and some survives the last. Its gradient g is the mean over a sample in training mode where theirs is
    the sum over all training batches in evaluation mode. 1.2 million parameters: scoring costs 1.2 million
    multiply-adds a weight.
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
    for fan_in, fan_out in pairwise(_WIDTHS):
        parts += [torch.nn.Linear(fan_in, fan_out), torch.nn.BatchNorm1d(fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-2])
