"""Properties of every method on any network: exact counts, nesting, determinism, finite scores, pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.presets import PRESETS, Method
from autosparse.core.schedule import Pruning, schedules
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors, kept, total_of
from autosparse.registry import Registry
from tests.unit.core.conftest import (
    CLASSES,
    SHAPE,
    assert_same,
    batch_of,
    evidence_of,
    first_feature,
    order_of,
    seeded,
    snapshot,
)

few = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """Convolutions of any kernel, stride, padding, groups and BatchNorm, pooled, then linear layers; weights random."""
    channels, layers = SHAPE[0], list[nn.Module]()
    for _ in range(draw(st.integers(0, 2))):
        groups = draw(st.sampled_from([1, channels]))
        width = groups * draw(st.integers(1, 3)) if groups > 1 else draw(st.integers(1, 5))
        kernel, stride = draw(st.sampled_from([(1, 1), (3, 1), (3, 2)]))
        layers.append(nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=draw(st.booleans())))
        layers += [nn.BatchNorm2d(width)] if draw(st.booleans()) else []
        layers.append(draw(st.sampled_from([nn.ReLU, nn.GELU]))())
        channels = width
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    inputs = 4 * channels
    for _ in range(draw(st.integers(0, 2))):
        width = draw(st.integers(1, 6))
        layers += [nn.Linear(inputs, width, bias=draw(st.booleans())), nn.Tanh()]
        inputs = width
    network = nn.Sequential(*layers, nn.Linear(inputs, CLASSES))
    generator = seeded(draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


def evidence_about(network: nn.Module, seed: int = 0) -> Evidence:
    """Evidence with one batch, a scorer that predicts the first feature, and any order of survival."""
    bare = evidence_of(network, SHAPE, batches=[batch_of(SHAPE, 6)], seed=seed)
    return replace(bare, scorer=first_feature(), survival=order_of(bare.weights))


def quick(method: Method) -> Method:
    """The method with five rounds or training steps where it has more, of which any is like any other."""
    schedule = {"name": method["schedule"]} if isinstance(method["schedule"], str) else method["schedule"]
    known = schedules[schedule["name"]].options
    few = {name: 5 for name in ("rounds", "steps") if name in known and known[name].default}
    return {**method, "schedule": {**schedule, **few}}


def masks_of(evidence: Evidence, method: Method, keep: int) -> Tensors:
    """The masks of a method."""
    score, allocate, select, schedule = (
        chosen(registry, method[registry.kind]) for registry in (criteria, allocations, selections, schedules)
    )
    masks: Tensors = schedule(Pruning(evidence, total_of(evidence.weights), keep, score, allocate, select))
    return masks


def masks_or_refusal(evidence: Evidence, method: Method, keep: int) -> Tensors | str:
    """The masks of a method, or why there are none."""
    try:
        return masks_of(evidence, method, keep)
    except ValueError as error:
        return str(error)


def chosen(registry: Registry[Any], choice: Any) -> Callable[..., Any]:
    """The function of a choice, with its options."""
    options = {"name": choice} if isinstance(choice, str) else dict(choice)
    return partial(registry[options.pop("name")].function, **options)


@pytest.mark.parametrize("preset", PRESETS)
@given(network=networks(), share=st.floats(0, 1))
@few(max_examples=12)
def test_every_preset_is_exact_and_repeatable_and_modifies_nothing(
    preset: str, network: nn.Sequential, share: float
) -> None:
    """Exactly as many weights as asked for, the same from the same generator, from a network left as it was.

    Or the one refusal: scores that are all zero, as when every unit is silent.
    """
    method, state = quick(PRESETS[preset][1]), snapshot(network)
    evidence = evidence_about(network)
    weights = {name: weight.clone() for name, weight in evidence.weights.items()}
    keep = max(1, round(share * total_of(weights)))

    masks = masks_or_refusal(evidence, method, keep)
    if isinstance(masks, str):
        assert "every weight has score 0" in masks
        return

    assert keep == sum(kept(masks).values())
    assert list(weights) == list(masks)
    assert_same(masks, masks_of(evidence_about(network), method, keep))
    assert_same(weights, evidence.weights)
    assert_same(state, snapshot(network))


@pytest.mark.parametrize("allocation", allocations.names)
@given(network=networks(), seed=st.integers(0, 99), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@few(max_examples=25)
def test_counts_never_rise_with_sparsity_and_masks_are_nested(
    allocation: str, network: nn.Sequential, seed: int, shares: tuple[float, float]
) -> None:
    """Of the same scores a higher sparsity keeps, layer by layer, a part of what a lower one keeps."""
    method = {"criterion": "random", "allocation": allocation, "selection": "top", "schedule": "one_shot"}
    total = total_of(evidence_about(network).weights)
    fewer, more = sorted(round(share * total) for share in shares)

    small, large = (masks_of(evidence_about(network, seed), method, keep) for keep in (fewer, more))

    for name, mask in small.items():
        assert int(mask.sum()) <= int(large[name].sum())
        assert not bool((mask & ~large[name]).any())


@given(network=networks(), share=st.floats(0, 1))
@few(max_examples=20)
def test_equal_scores_are_drawn(network: nn.Sequential, share: float) -> None:
    """When all scores of all layers are equal, those that are kept are drawn: exactly as many, the same at a seed."""
    keep = round(share * total_of(evidence_about(network).weights))

    def drawn() -> Tensor:
        evidence = evidence_about(network)
        scores = {name: torch.full_like(weight, 0.5) for name, weight in evidence.weights.items()}
        chosen = allocations["global"].function, selections["top"].function
        pruning = Pruning(evidence, 0, keep, lambda _: scores, *chosen)
        return torch.cat([mask.flatten() for mask in pruning.in_rounds([keep]).values()])

    first = drawn()

    assert keep == int(first.sum())
    assert torch.equal(first, drawn())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "criterion",
    [
        entry.name
        for entry in criteria
        if not {"shuffled", "needs_scorer", "needs_rounds", "needs_order"} & set(entry.facts)
        and entry.name != "ntk_sap"  # scores weights that it draws
    ],
)
@given(network=networks())
@few(max_examples=4)
def test_scores_are_finite_or_the_layer_is_named(criterion: str, value: float, network: nn.Sequential) -> None:
    """A network with a weight that is no finite number is refused with the name of a layer."""
    evidence = evidence_about(network)
    assert all(bool(part.isfinite().all()) for part in criteria[criterion].function(evidence).values())
    head = network[-1]
    assert isinstance(head, nn.Linear)
    head.weight.data[0, 0] = value

    method = {"criterion": criterion, "allocation": "global", "selection": "top", "schedule": "one_shot"}
    with pytest.raises(ValueError, match=r"scores of layer \d+\.weight are not finite numbers"):
        masks_of(evidence_about(network), method, 1)
