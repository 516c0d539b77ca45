"""Masks made by the four choices: exact, nested, deterministic; and which of their weights have an effect."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.allocation import Counts, allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import effective
from autosparse.core.presets import CONTROLS, PRESETS, Method
from autosparse.core.schedule import Pruning, schedules
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors, kept, total_of
from autosparse.registry import Registry
from tests.unit.core.conftest import (
    SHAPE,
    all_ones,
    assert_same,
    evidence_of,
    first_feature,
    order_of,
    random_masks,
    small,
)
from tests.unit.core.test_evidence import Tied


def evidence(seed: int = 0) -> Evidence:
    """Evidence about a small network, with a scorer that predicts the first feature, and any order of survival."""
    bare = evidence_of(small(), SHAPE, seed=seed)
    return replace(bare, scorer=first_feature(), survival=order_of(bare.weights))


TOTAL = total_of(evidence().weights)


def one_shot(criterion: str, allocation: str, selection: str, keep: int, seed: int = 0) -> Tensors:
    """Masks by registered choices in one round."""
    return by_method(
        {"criterion": criterion, "allocation": allocation, "selection": selection, "schedule": "one_shot"}, keep, seed
    )


def by_method(method: Method, keep: int, seed: int = 0) -> Tensors:
    """Masks by a preset."""
    score, allocate, select, schedule = (
        chosen(registry, method[part])
        for part, registry in (
            ("criterion", criteria),
            ("allocation", allocations),
            ("selection", selections),
            ("schedule", schedules),
        )
    )
    masks: Tensors = schedule(Pruning(evidence(seed), TOTAL, keep, score=score, allocate=allocate, select=select))
    return masks


def chosen(registry: Registry[Any], choice: Any) -> Any:
    """The function of a choice, `name` or `{name:, ...}`, with few rounds and training steps."""
    options = {"name": choice} if isinstance(choice, str) else dict(choice)
    entry = registry[options.pop("name")]
    few = {"steps": 3, "rounds": 5} if registry is schedules else {}
    brief = {key: value for key, value in few.items() if key in entry.options and entry.options[key].default}
    return partial(entry.function, **{**options, **brief})


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("keep", [TOTAL, TOTAL // 2, 17, 4, 1])
def test_presets_keep_exactly_what_was_asked(preset: str, keep: int) -> None:
    """Every published method keeps exactly `keep` weights, from all of them to a single one."""
    masks = by_method(PRESETS[preset][1], keep)

    assert list(evidence().weights) == list(masks)
    assert keep == sum(kept(masks).values())
    assert all(torch.bool == mask.dtype for mask in masks.values())
    assert all(evidence().weights[name].shape == mask.shape for name, mask in masks.items())


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_keep_exactly_what_was_asked(control: str) -> None:
    """Every control of a method keeps as many weights as the method."""
    assert 40 == sum(kept(by_method({**PRESETS["snip"][1], **CONTROLS[control][1]}, 40)).values())


@pytest.mark.parametrize("schedule", schedules.names)
@pytest.mark.parametrize("selection", selections.names)
@pytest.mark.parametrize("allocation", allocations.names)
def test_every_combination_is_exact(allocation: str, selection: str, schedule: str) -> None:
    """Any allocation, selection and schedule together keep exactly `keep` weights."""
    method = {"criterion": "magnitude", "allocation": allocation, "selection": selection, "schedule": schedule}

    assert 33 == sum(kept(by_method(method, 33)).values())


@pytest.mark.parametrize("criterion", criteria.names)
def test_one_shot_global_top_is_nested(criterion: str) -> None:
    """One shot, global, top: what a higher sparsity keeps, a lower one keeps too."""
    levels = [one_shot(criterion, "global", "top", keep) for keep in (TOTAL, 300, 200, 50, 20, 5, 1)]

    for more, fewer in pairwise(levels):
        assert all(not bool((fewer[name] & ~more[name]).any()) for name in more)


@pytest.mark.parametrize("criterion", criteria.names)
def test_one_shot_global_top_keeps_the_largest(criterion: str) -> None:
    """No pruned weight of any layer scores above a kept one."""
    masks = one_shot(criterion, "global", "top", 60)
    scores = criteria[criterion].function(evidence())

    lowest = min(float(scores[name][mask].min()) for name, mask in masks.items() if bool(mask.any()))
    highest = max(float(scores[name][~mask].max()) for name, mask in masks.items() if not bool(mask.all()))

    assert highest <= lowest


@pytest.mark.parametrize("preset", PRESETS)
def test_same_generator_gives_same_masks(preset: str) -> None:
    """A method is a function of its evidence and generator."""
    assert_same(by_method(PRESETS[preset][1], 50), by_method(PRESETS[preset][1], 50))


def test_other_generator_gives_other_random_masks() -> None:
    """Random masks differ from seed to seed."""
    first, second = (by_method(PRESETS["random"][1], 50, seed) for seed in (0, 1))

    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("allocation", allocations.names)
def test_random_selection_keeps_the_quotas(allocation: str) -> None:
    """Shuffling within layers moves weights but not counts."""
    top = one_shot("snip", allocation, "top", 100)
    random = one_shot("snip", allocation, "shuffle", 100)

    assert kept(top) == kept(random)
    assert any(not torch.equal(top[name], random[name]) for name in top)


@pytest.mark.parametrize("selection", selections.names)
@pytest.mark.parametrize("allocation", allocations.names)
def test_what_is_pruned_stays_pruned(allocation: str, selection: str) -> None:
    """Every round sees the last round's masks and weights, and keeps a part of them."""
    seen: list[Evidence] = []
    events: list[tuple[int, int]] = []

    def score(given: Evidence) -> Tensors:
        seen.append(given)
        return criteria["random"].function(given)

    counts = [200, 120, 120, 30]
    masks = Pruning(
        evidence(),
        TOTAL,
        30,
        score=score,
        allocate=allocations[allocation].function,
        select=selections[selection].function,
        observe=lambda done, total: events.append((done, total)),
    ).in_rounds(counts)

    rounds = [given.masks for given in seen] + [masks]
    assert [TOTAL, *counts] == [sum(kept(each).values()) for each in rounds]
    assert [(1, 4), (2, 4), (3, 4), (4, 4)] == events
    for earlier, later in pairwise(rounds):
        assert all(not bool((later[name] & ~earlier[name]).any()) for name in later)
    for given in seen:
        assert all(torch.equal(evidence().weights[n] * given.masks[n], given.weights[n]) for n in given.masks)


def test_equal_scores_are_drawn() -> None:
    """When all scores are equal exactly as many weights stay, from every layer."""
    masks = Pruning(
        evidence(),
        TOTAL,
        75,
        score=lambda given: {name: torch.ones_like(weight) for name, weight in given.weights.items()},
        allocate=allocations["global"].function,
        select=selections["top"].function,
    ).in_rounds([75])

    assert 75 == sum(int(mask.sum()) for mask in masks.values())
    assert all(bool(mask.any()) for mask in masks.values())


def test_not_a_number_names_the_layer() -> None:
    """A score that is not a number is an error that names the layer and how many there are."""

    def score(given: Evidence) -> Tensors:
        scores = {name: weight.abs() for name, weight in given.weights.items()}
        scores["hidden.weight"][0, :2] = math.nan
        return scores

    pruning = Pruning(
        evidence(), TOTAL, 10, score, allocate=allocations["uniform"].function, select=selections["top"].function
    )
    with pytest.raises(ValueError, match=r"2 scores of layer hidden\.weight are not finite numbers"):
        pruning.in_rounds([10])


def test_evidence_is_left_alone() -> None:
    """Pruning modifies neither the evidence's weights and masks nor the scores it was given."""
    given = evidence()
    weights = {name: weight.clone() for name, weight in given.weights.items()}
    scores = {name: weight.abs() for name, weight in weights.items()}
    before = {name: part.clone() for name, part in scores.items()}

    Pruning(
        given,
        TOTAL,
        10,
        score=lambda _: scores,
        allocate=allocations["global"].function,
        select=selections["top"].function,
    ).in_rounds([100, 10])

    assert_same(before, scores)
    assert_same(weights, given.weights)
    assert_same(all_ones(given.model), given.masks)


def chain(*sizes: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with large biases and ReLU between them, with BatchNorm if asked."""
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        modules += [nn.Linear(fan_in, fan_out), *([nn.BatchNorm1d(fan_out)] if norm else []), nn.ReLU()]
    network = nn.Sequential(*modules[:-1])
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.fill_(9.0)
    return network


def effect(network: nn.Module, shape: tuple[int, ...], *masks: object) -> list[int]:
    """Effective counts by layer, of masks written as nested lists."""
    names = list(all_ones(network))
    given = {name: torch.tensor(mask, dtype=torch.bool) for name, mask in zip(names, masks, strict=True)}
    counts: Counts = effective(evidence_of(network, shape, masks=given))
    assert names == list(counts)
    return list(counts.values())


@pytest.mark.parametrize("norm", [False, True])
def test_weights_on_no_path_have_no_effect(norm: bool) -> None:
    """Only weights between input and output count; biases and BatchNorm's shifts make no path."""
    network = chain(2, 2, 2, norm=norm)
    everything = [[1, 1], [1, 1]]

    assert [4, 4] == effect(network, (2,), everything, everything)
    # The second hidden unit reads nothing: what leaves it has no effect.
    assert [2, 1] == effect(network, (2,), [[1, 1], [0, 0]], [[1, 0], [0, 1]])
    # Nothing reads the second hidden unit: what enters it has no effect.
    assert [1, 1] == effect(network, (2,), [[1, 0], [0, 1]], [[1, 0], [0, 0]])
    # Kept weights in both layers, and no path at all.
    assert [0, 0] == effect(network, (2,), [[1, 1], [0, 0]], [[0, 1], [0, 1]])
    assert [0, 0] == effect(network, (2,), everything, [[0, 0], [0, 0]])


def test_dead_ends_are_followed_through_layers() -> None:
    """A weight two layers away from the break has no effect either."""
    identity = [[1, 0], [0, 1]]

    assert [1, 1, 1] == effect(chain(2, 2, 2, 2), (2,), identity, [[1, 0], [0, 1]], [[1, 0], [0, 0]])
    assert [1, 1, 2] == effect(chain(2, 2, 2, 2), (2,), [[1, 0], [0, 0]], identity, [[1, 1], [1, 0]])


def test_effect_does_not_depend_on_values() -> None:
    """The sign, size and even zeroes of the weights that are present do not matter."""
    network = chain(2, 2, 2)
    for name, weight in network.state_dict().items():
        if name.endswith("weight"):
            weight.copy_(torch.tensor([[0.0, -1e30], [1e-30, -1.0]]))

    assert [4, 4] == effect(network, (2,), [[1, 1], [1, 1]], [[1, 1], [1, 1]])


def test_thin_deep_paths_have_an_effect() -> None:
    """One weight a layer through forty layers of width 100 is a path."""
    network = chain(*[100] * 41)
    masks = {name: torch.zeros_like(mask) for name, mask in all_ones(network).items()}
    for mask in masks.values():
        mask[7, 7] = True

    assert {1} == set(effective(evidence_of(network, (100,), masks=masks)).values())


def test_residual_paths_have_an_effect() -> None:
    """With BatchNorm, strides and pooling everything on a path counts, and nothing is modified."""
    network = small()
    given = evidence_of(network, SHAPE)
    masks = random_masks(network, share=0.6)

    assert kept(given.masks) == effective(given)
    assert all(count <= kept(masks)[name] for name, count in effective(given.masked(masks)).items())


def test_convolution_channels_on_no_path_have_no_effect() -> None:
    """All nine weights of a kernel from a channel that nothing fills are without effect."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    masks = all_ones(network)
    masks["0.weight"][1] = False

    assert [9, 9] == list(effective(evidence_of(network, (1, 4, 4), masks=masks)).values())


def test_max_pooling_is_a_path_from_every_position() -> None:
    """Each weight of a kernel over a 2 x 2 map reaches some position, and any of them may be the highest."""
    network = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 1, bias=False)
    )

    assert [9, 1] == list(effective(evidence_of(network, (1, 2, 2))).values())


def test_tied_weights_have_an_effect() -> None:
    """A weight that two layers share counts once."""
    assert [16, 12] == list(effective(evidence_of(Tied(), (4,))).values())


def test_kept_by_hand() -> None:
    """Kept counts the ones of each layer."""
    assert {"a": 2, "b": 0} == kept({"a": torch.tensor([True, False, True]), "b": torch.tensor([[False]])})
