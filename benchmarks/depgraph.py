"""Networks that Torch-Pruning prunes at initialization, as models of a spec: `model: benchmarks/depgraph.py:pruned`.

Needs `pip install torch-pruning`. Its importance of coupled groups by magnitude (Fang et al. 2023, DepGraph) removes
the same groups' channels with one threshold for all, in small steps as its documentation recommends.
"""

from __future__ import annotations

import torch
import torch_pruning

from autosparse.models import build_model

_STEPS, _LEAST = 400, 0.05


def pruned(
    shape: tuple[int, ...], classes: int, *, network: str = "vgg", share: float = 0.3, seed: int = 0
) -> torch.nn.Module:
    """Build a network of autosparse between the channels that Torch-Pruning keeps.

    Args:
        shape: Shape of an image, (channels, height, width).
        classes: Number of classes; the layer that computes them stays whole.
        network: Name of the network.
        share: Largest share of the dense network's multiply-adds.
        seed: Seed of the dense network, whose weights decide which channels stay.

    Returns:
        The smaller network, with the initial weights of the dense one.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, example = build_model(network, {}, shape, classes), torch.zeros(1, *shape)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    total, _ = torch_pruning.utils.count_ops_and_params(model, example)
    pruner = torch_pruning.pruner.BasePruner(
        model, example, torch_pruning.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
        pruning_ratio=1 - _LEAST, max_pruning_ratio=1 - _LEAST, iterative_steps=_STEPS, ignored_layers=[last],
    )  # fmt: skip
    for _ in range(_STEPS):
        if torch_pruning.utils.count_ops_and_params(model, example)[0] <= share * total:
            return model
        pruner.step()
    raise ValueError(f"Torch-Pruning leaves more than {share:.0%} of the multiply-adds")
