"""Sanity checks: the part of a method's accuracy due to its choice of weights (Frankle et al. 2021; Su et al. 2020)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autosparse.core.allocation import Counts, Impossible
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.images import Images, RowReader
from autosparse.core.schedule import Pruning, keeps_weights, schedules, training_steps
from autosparse.core.selection import selections
from autosparse.core.weights import Layer, Tensors, kept
from autosparse.lazy_torch import torch

CHECKS: dict[str, str] = {
    "shuffle": "same number of weights per layer, at random positions; isolates the layer quotas",
    "reinitialize": "same masks on other initial weights; tests dependence on the scored weights",
    "invert": "same number of weights per layer, with the lowest scores; tests the ranking within layers",
    "random_labels": "scores from permuted labels; tests dependence on the labels",
    "shuffled_pixels": "scores from images with permuted pixels; tests dependence on image content",
}
"""Checks, each of which replaces a part of a method: check -> help. `shuffle` covers random refilling of the same
quotas: in unstructured masks, every position is equally likely in both."""


def left_out(check: str, method: Mapping[str, Any]) -> str:
    """Return the reason why a check is void for a method, by its keyed choices; empty if the check applies."""
    if "updates" in method:
        return "its masks change during training"
    if keeps_weights(method):
        return "its masks were trained together with its weights"
    if method["schedule"]["options"].get("shared") and check != "shuffle":
        return "its masks come from one search for all budgets"
    criterion, selection = method["criterion"], selections[method["selection"]["name"]]
    facts = criteria[criterion["name"]].facts
    drawn = facts.get("shuffled", False) and not schedules[method["schedule"]["name"]].facts.get("learns", False)
    gradients = facts.get("gradients", 0)
    sees = (gradients(criterion["options"]) if callable(gradients) else gradients) or training_steps(method)
    blind = selection.facts.get("blind", False)
    reasons = {
        "shuffle": "its weights are random within layers already"
        * (blind or (drawn and selection.facts.get("plain", False))),
        "reinitialize": "its masks know nothing of the initial weights" * drawn,
        "invert": "no score decides within its layers" * (blind or drawn),
        **dict.fromkeys(("random_labels", "shuffled_pixels"), "it looks at no images" * (not sees)),
    }
    if facts.get("needs_rounds"):
        reasons |= dict.fromkeys(("random_labels", "shuffled_pixels"), "its rounds would have to be run again")
    return reasons[check]


def is_shuffled_by_selection(method: Mapping[str, Any]) -> bool:
    """Return whether a random selection keeps the method's quotas: it allocates once, and nothing follows."""
    options, follows = method["schedule"]["options"], method.keys() & {"repair", "updates"}
    once = options.get("rounds", 1) == 1 and options.get("quotas", "fixed") == "fixed"
    once = once and not options.get("shared")
    return once and not follows and not keeps_weights(method)


def shuffle(masks: Mapping[str, torch.Tensor], generator: torch.Generator) -> Tensors:
    """Permute the positions of masks within each layer."""
    return {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator).to(mask.device)].view(mask.shape)
        for name, mask in masks.items()
    }


def invert(schedule: Callable[[Pruning], Tensors], pruning: Pruning) -> Tensors:
    """Return masks of the lowest scores: the schedule runs twice, first for its quotas, then with its scores negated.

    An allocation of the second run replays the first run's quotas, or failure, for the same number of weights: in order
    where the schedule learns scores, else the last, since a schedule that draws among ties allocates once more. Pruned
    weights stay pruned.
    """
    function = getattr(schedule, "func", schedule)
    in_order = any(entry.function is function and entry.facts.get("learns", False) for entry in schedules)
    made: dict[int, list[Counts | Impossible]] = {}

    def record(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
        try:
            quotas = pruning.allocate(scores, layers, keep)
        except Impossible as error:
            made.setdefault(keep, []).append(error)
            raise
        made.setdefault(keep, []).append(quotas)
        return quotas

    def replay(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
        left = made[keep]
        quotas = left.pop(0) if in_order and len(left) > 1 else left[-1]
        if isinstance(quotas, Impossible):
            raise quotas
        return quotas

    def lowest(scores: Tensors, quotas: Counts, evidence: Evidence) -> Tensors:
        negated = {name: (-values).masked_fill(values == -math.inf, -math.inf) for name, values in scores.items()}
        return pruning.select(negated, quotas, evidence)

    state = pruning.evidence.generator.get_state()
    schedule(replace(pruning, allocate=record))
    pruning.evidence.generator.set_state(state)
    return schedule(replace(pruning, allocate=replay, select=lowest))


def permute_labels(images: Images, generator: torch.Generator) -> Images:
    """Permute the labels of the images: class counts stay the same."""
    order = torch.randperm(len(images), generator=generator)
    return replace(images, labels=images.labels[order.to(images.labels.device)])


def permute_pixels(images: Images, generator: torch.Generator) -> Images:
    """Permute the pixels of each image by a separate order, the same at every access; colours stay together."""
    seed = int(torch.randint(2**31, (), generator=generator))
    if isinstance(images.pixels, torch.Tensor):
        return replace(images, pixels=_permuted(images.pixels, torch.arange(len(images)), seed))
    return replace(images, pixels=_PermutedRows(images.pixels, seed, images.pixels.shape))


def best_of(reached: Mapping[str, Sequence[float]]) -> tuple[str, dict[str, float]]:
    """Return the name with the highest mean accuracy, and all means; of ties the first in sorted order."""
    means = {name: statistics.fmean(reached[name]) for name in sorted(reached)}
    return max(means, key=means.__getitem__), means


def overlap(masks: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> float:
    """Return the share of the weights kept by masks that others keep too."""
    both = sum(int((mask & others[name].to(mask.device)).count_nonzero()) for name, mask in masks.items())
    return both / max(1, sum(kept(masks).values()))


@dataclass
class _PermutedRows:
    rows: RowReader
    seed: int
    shape: tuple[int, ...]

    def __getitem__(self, numbers: torch.Tensor) -> torch.Tensor:
        return _permuted(self.rows[numbers], numbers, self.seed)


def _permuted(pixels: torch.Tensor, numbers: torch.Tensor, seed: int) -> torch.Tensor:
    permuted = torch.empty_like(pixels)
    for index, number in enumerate(numbers.tolist()):
        order = torch.randperm(pixels[index, :, :, 0].numel(), generator=torch.Generator().manual_seed(seed + number))
        permuted[index] = pixels[index].flatten(0, 1)[order.to(pixels.device)].view(pixels.shape[1:])
    return permuted
