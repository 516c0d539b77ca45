"""Initial weights under masks are scaled by the share that their layer keeps, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autosparse.core.torch_compat.random_state import seeded as drawing
from autosparse.core.training.loop import train, train_sparse
from autosparse.core.training.recipe import Recipe
from autosparse.core.training.under_masks import rescale_weights
from autosparse.core.training.update_rules import update_rules
from autosparse.core.weights import Tensors, full_masks, prunable_weights
from tests.unit.core.conftest import assert_same, images_of, random_masks, seeded, small, snapshot
from tests.unit.core.training.test_resume import Interrupted, Memory, network
from tests.unit.core.training.test_update_rules import pruning_of

RECIPE = Recipe(epochs=2.5, batch=4, lr=0.05, crop=1, precision="float32", rescale=0.5)


def masks_by_hand() -> Tensors:
    """Masks that keep a quarter of the first layer, nothing of the second and all of the third."""
    masks = full_masks(prunable_weights(small()))
    masks["stem.weight"] = torch.arange(72).view(4, 2, 3, 3) % 4 == 0
    masks["conv.weight"] = torch.zeros_like(masks["conv.weight"])
    del masks["head.weight"]
    return masks


@pytest.mark.parametrize(("exponent", "factor"), [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)])
def test_scales_by_hand(exponent: float, factor: float) -> None:
    """A layer that keeps a quarter is multiplied by 4^e; full, empty and unmasked layers and biases are not."""
    model, before = small(), snapshot(small())
    masks = masks_by_hand()

    rescale_weights(model, masks, exponent)

    kept = masks["stem.weight"]
    assert torch.equal(factor * before["stem.weight"][kept], model.stem.weight.detach()[kept])
    assert torch.equal(before["stem.weight"][~kept], model.stem.weight.detach()[~kept])
    others = {name: tensor for name, tensor in snapshot(model).items() if name != "stem.weight"}
    assert_same({name: tensor for name, tensor in before.items() if name != "stem.weight"}, others)


def test_variance_is_kept() -> None:
    """With exponent 0.5 the sum over the kept inputs has the variance of the sum over all."""
    layer = torch.nn.Linear(4000, 50, bias=False)
    model, inputs = torch.nn.Sequential(layer), torch.randn(400, 4000, generator=seeded(1))
    layer.weight.data = torch.randn(50, 4000, generator=seeded(2))
    mask = torch.rand(50, 4000, generator=seeded(3)) < 0.02
    dense = float(layer(inputs).detach().var())

    rescale_weights(model, {"0.weight": mask}, 0.5)
    layer.weight.data *= mask

    assert dense == pytest.approx(float(layer(inputs).detach().var()), rel=0.1)


def test_training_starts_from_scaled_weights() -> None:
    """Training with `rescale` is training of the scaled network without it, with masks of any type, bit for bit."""
    masks = random_masks(small(), share=0.3)
    by_recipe, by_hand, plain = small(), small(), small()
    rescale_weights(by_hand, masks, 0.5)

    given = {name: mask.float() for name, mask in masks.items()}
    losses = train(by_recipe, images_of(18), RECIPE, seeded(1), masks=given)
    expected = train(by_hand, images_of(18), replace(RECIPE, rescale=0.0), seeded(1), masks=masks)
    train(plain, images_of(18), replace(RECIPE, rescale=0.0), seeded(1), masks=masks)

    assert expected == losses
    assert_same(snapshot(by_hand), snapshot(by_recipe))
    assert not torch.equal(plain.stem.weight, by_recipe.stem.weight)
    for name, weight in prunable_weights(by_recipe).items():
        assert int(masks[name].sum()) == int(weight[masks[name]].count_nonzero())
        assert 0 == int(weight[~masks[name]].count_nonzero())


def test_dense_and_later_training_are_as_before() -> None:
    """Without masks, and from a later step on, whose weights have been trained, there is nothing to scale."""
    masks = random_masks(small())
    for begin, held in ((0, None), (3, masks)):
        scaled, plain = small(), small()

        train(scaled, images_of(18), RECIPE, seeded(1), masks=held, begin=begin)
        train(plain, images_of(18), replace(RECIPE, rescale=0.0), seeded(1), masks=held, begin=begin)

        assert_same(snapshot(plain), snapshot(scaled))


@pytest.mark.parametrize("rule", ["drop_and_grow", "gradual"])
def test_sparse_training_scales_its_first_masks(rule: str) -> None:
    """A sparse start is scaled once; a dense one is not."""
    sparse = update_rules[rule].facts["starts"] == "sparse"
    masks = random_masks(small(), share=0.3) if sparse else None

    def trained(rescale: float, *, by_hand: bool) -> Tensors:
        model = small()
        if by_hand and masks is not None:
            rescale_weights(model, masks, 0.5)
        updates = update_rules[rule].function(pruning_of(small(), 20), seeded(3))
        given = replace(RECIPE, rescale=rescale)
        train_sparse(model, images_of(18), given, seeded(1), updates, masks=masks)
        return snapshot(model)

    assert_same(trained(0.0, by_hand=True), trained(0.5, by_hand=False))


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_resumed_training_is_scaled_once(steps: int) -> None:
    """An interrupted training ends with the bytes of one that was not."""
    masks, (whole, interrupted, resumed) = random_masks(small(), share=0.3), (network() for _ in range(3))
    with drawing(5):
        expected = train(whole, images_of(18), RECIPE, seeded(1), masks=masks)
    memory = Memory(steps)
    with drawing(5), pytest.raises(Interrupted):
        train(interrupted, images_of(18), RECIPE, seeded(1), masks=masks, checkpoint=memory)
    with drawing(99):
        losses = train(resumed, images_of(18), RECIPE, seeded(1), masks=masks, checkpoint=memory)

    assert expected == losses
    assert_same(snapshot(whole), snapshot(resumed))
