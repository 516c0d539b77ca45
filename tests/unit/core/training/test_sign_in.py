"""Sign-In: the network sees the product of two factors, whose steps are those of the paper."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from autosparse.core.images import epoch
from autosparse.core.torch_compat.random_state import seeded as drawing
from autosparse.core.training.loop import train, train_sparse
from autosparse.core.training.recipe import Recipe
from autosparse.core.training.sign_in import SignIn
from autosparse.core.training.update_rules import update_rules
from autosparse.core.weights import Tensors, full_masks, prunable_weights
from tests.unit.core.conftest import Small, assert_same, images_of, random_masks, seeded, small, snapshot
from tests.unit.core.training.test_resume import Interrupted, Memory, network
from tests.unit.core.training.test_team import Circle, images, plain
from tests.unit.core.training.test_update_rules import pruning_of

RECIPE = Recipe(epochs=2.5, batch=4, lr=0.05, crop=1, precision="float32", reparameterization="sign_in")
PLAIN = Recipe(optimizer="sgd", lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, reparameterization="sign_in")


def flat_of(*values: float) -> nn.Parameter:
    """A vector of parameters with gradients of zero."""
    flat = nn.Parameter(torch.tensor(values))
    flat.grad = torch.zeros_like(flat)
    return flat


def test_factors_by_hand() -> None:
    """The product is the weight and m^2 - w^2 is 1, for either sign and zero; unmasked parameters have m = 1."""
    flat = flat_of(0.75, -0.75, 0.0, 3.0, 5.0)
    rule = SignIn(flat, PLAIN, torch.tensor([1.0, 1, 1, 1, 0]), torch.ones(5))
    m, w = rule.state[-1]

    torch.testing.assert_close(flat.data, m * w)
    torch.testing.assert_close(torch.ones(4), (m**2 - w**2)[:4])
    assert [1.0, 1.0] == [float(m[2]), float(m[4])]
    assert math.sqrt((1 + math.sqrt(3.25)) / 2) == pytest.approx(float(m[0]))
    assert 5.0 == float(w[4])


def test_a_step_by_hand() -> None:
    """Both factors descend at once: theta' = (m - l g w) (w - l g m), and the inner scaling shrinks by (l g)^2."""
    flat = flat_of(0.75, 2.0, 0.0)
    rule = SignIn(flat, PLAIN, torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 1, 0]))
    m, w = (factor.clone() for factor in rule.state[-1])
    assert flat.grad is not None
    flat.grad.copy_(torch.tensor([4.0, 4.0, 4.0]))
    rule.lr = 0.1

    rule.step()

    expected = (m[0] - 0.4 * w[0]) * (w[0] - 0.4 * m[0])
    torch.testing.assert_close(torch.stack([expected, torch.tensor(1.6), torch.tensor(0.0)]), flat.data)
    new_m, new_w = rule.state[-1]
    assert 1 - 0.4**2 == pytest.approx(float(new_m[0] ** 2 - new_w[0] ** 2), rel=1e-5)
    assert (1.0, 0.0) == (float(new_m[2]), float(new_w[2]))  # a masked weight rests
    before = flat.data.clone()
    rule.balance()
    torch.testing.assert_close(before, new_m * new_w)
    assert 1.0 == pytest.approx(float(new_m[0] ** 2 - new_w[0] ** 2), rel=1e-5)


def test_a_weight_changes_its_sign() -> None:
    """Descent on (theta + 0.5)^2 from 0.5 ends at -0.5."""
    flat = flat_of(0.5)
    rule = SignIn(flat, PLAIN, torch.ones(1), torch.ones(1))
    for _ in range(100):
        flat.grad = 2 * (flat.detach() + 0.5)
        rule.step()

    assert -0.5 == pytest.approx(float(flat.detach()), abs=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_acts_on_the_product(optimizer: Literal["sgd", "adamw"]) -> None:
    """Without gradients AdamW multiplies every parameter by 1 - l d; SGD adds d theta to the gradient of theta."""
    flat = flat_of(0.75, 2.0)
    rule = SignIn(flat, replace(PLAIN, optimizer=optimizer, weight_decay=0.5), torch.tensor([1.0, 0]), torch.ones(2))
    m, w = (float(factor[0]) for factor in rule.state[-1])

    rule.step()

    step = 0.1 * 0.5 * 0.75
    first = 0.95 * 0.75 if optimizer == "adamw" else (m - step * w) * (w - step * m)
    torch.testing.assert_close(torch.tensor([first, 1.9]), flat.data)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_agrees_with_two_parameters_of_a_module(optimizer: Literal["sgd", "adamw"]) -> None:
    """A layer with parameters m and w, trained by torch's optimizer, has the same weights at the end of an epoch."""
    given = replace(RECIPE, epochs=1, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 0.005, weight_decay=0.0)
    given = replace(given, schedule="constant", warmup=0.0, crop=0, flip=False)
    weight, few = torch.randn(3, 72, generator=seeded(2)) * 0.3, images_of(16)
    layer = nn.Linear(72, 3, bias=False)
    layer.weight.data.copy_(weight)
    mask = torch.rand(3, 72, generator=seeded(3)) < 0.5

    train(nn.Sequential(nn.Flatten(), layer), few, given, seeded(1), masks={"1.weight": mask})

    theta = weight * mask
    m = nn.Parameter(((1 + (1 + 4 * theta**2).sqrt()) / 2).sqrt())
    w = nn.Parameter((theta / m).detach())
    theirs: torch.optim.Optimizer = torch.optim.AdamW([m, w], given.lr, weight_decay=0.0)
    if optimizer == "sgd":
        theirs = torch.optim.SGD([m, w], given.lr, momentum=0.9, nesterov=True)
    for inputs, labels in epoch(few, batch=4, crop=0, flip=False, generator=seeded(1)):
        theirs.zero_grad()
        nn.functional.cross_entropy(nn.functional.linear(inputs.flatten(1), m * w * mask), labels).backward()
        theirs.step()

    torch.testing.assert_close((m * w * mask).detach(), layer.weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masks_hold(optimizer: Literal["sgd", "adamw"]) -> None:
    """The state has the names of before; masked weights are zero after every epoch, kept ones differ from plain."""
    model, other = small(), small()
    masks = random_masks(model, share=0.4)
    recipe = replace(RECIPE, epochs=6, batch=12, optimizer=optimizer, weight_decay=0.1, lr=0.01)

    def look(done: int, total: int, loss: float) -> None:
        for name, weight in prunable_weights(model).items():
            assert 0 == int(weight[~masks[name]].count_nonzero()), (done, name)
            assert int(masks[name].sum()) == int(weight[masks[name]].count_nonzero()), (done, name)

    train(model, images_of(12), recipe, seeded(), masks=masks, observe=look)
    train(other, images_of(12), replace(recipe, reparameterization="none"), seeded(), masks=masks)

    assert list(Small().state_dict()) == list(model.state_dict())
    assert not torch.equal(other.stem.weight, model.stem.weight)
    assert all(bool(tensor.isfinite().all()) for tensor in snapshot(model).values())


def test_dense_training_is_as_before() -> None:
    """Without masks there are no factors."""
    factored, other = small(), small()
    train(factored, images_of(18), RECIPE, seeded(1))
    train(other, images_of(18), replace(RECIPE, reparameterization="none"), seeded(1))

    assert_same(snapshot(other), snapshot(factored))


@pytest.mark.parametrize("steps", [1, 4, 5, 9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_continues_with_the_same_bytes(optimizer: Literal["sgd", "adamw"], steps: int) -> None:
    """At any step, also at the end of an epoch, just before the factors balance."""
    recipe = replace(RECIPE, optimizer=optimizer, rescale=0.5)
    masks, (whole, interrupted, resumed) = random_masks(small()), (network() for _ in range(3))
    with drawing(5):
        expected = train(whole, images_of(18), recipe, seeded(1), masks=masks)
    memory = Memory(steps)
    with drawing(5), pytest.raises(Interrupted):
        train(interrupted, images_of(18), recipe, seeded(1), masks=masks, checkpoint=memory)
    with drawing(99):
        losses = train(resumed, images_of(18), recipe, seeded(1), masks=masks, checkpoint=memory)

    assert expected == losses
    assert_same(snapshot(whole), snapshot(resumed))


@pytest.mark.parametrize("steps", [2, 7, 11])
@pytest.mark.parametrize("rule", ["drop_and_grow", "gradual", "alternating"])
def test_masks_may_change(rule: str, steps: int) -> None:
    """Grown weights start from zero, the last masks hold, and an interrupted training has the same bytes."""
    sparse = update_rules[rule].facts["starts"] == "sparse"
    start = random_masks(small()) if sparse else None

    def trained(memory: Memory | None, seed: int) -> tuple[Tensors, Any]:
        options: dict[str, Any] = {"grow": "random", "every": 2} if rule == "drop_and_grow" else {}
        updates = update_rules[rule].function(pruning_of(small(), 20), seeded(3), **options)
        model = network()
        with drawing(seed):
            course = train_sparse(model, images_of(18), RECIPE, seeded(1), updates, masks=start, checkpoint=memory)
        return snapshot(model), course

    whole, expected = trained(None, 5)
    memory = Memory(steps)
    with pytest.raises(Interrupted):
        trained(memory, 5)
    resumed, course = trained(memory, 99)

    assert expected.changes == course.changes
    assert_same(expected.masks, course.masks)
    assert_same(whole, resumed)
    for name, mask in expected.masks.items():
        assert 0 == int(whole[name][~mask].count_nonzero())
        assert bool(whole[name].isfinite().all())


def test_full_masks_train_every_weight() -> None:
    """Masks of ones factor every prunable weight."""
    model = small()
    train(model, images_of(12), RECIPE, seeded(), masks=full_masks(prunable_weights(model)))

    assert all(bool(tensor.isfinite().all()) for tensor in snapshot(model).values())


def test_members_of_a_team_have_the_same_factors() -> None:
    """Data-parallel members end with the same bytes, near those of one process."""
    circle, models = Circle(2), [plain() for _ in range(3)]
    weights = prunable_weights(models[0])
    masks = {name: torch.arange(weight.numel()).view(weight.shape) % 3 == 0 for name, weight in weights.items()}
    recipe = replace(RECIPE, rescale=0.5)

    def one(rank: int) -> list[float]:
        return train(models[rank], images(48), recipe, seeded(1), masks=masks, team=circle.of(rank))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    train(models[2], images(48), recipe, seeded(1), masks=masks)

    assert first == second
    assert_same(snapshot(models[0]), snapshot(models[1]))
    for name, tensor in models[2].state_dict().items():
        torch.testing.assert_close(tensor, models[0].state_dict()[name], rtol=1e-3, atol=1e-4)


def test_sparse_kernels_see_the_products() -> None:
    """Training with the loops of remaining weights gives the weights of training with dense kernels."""
    pytest.importorskip("numba")
    masks = random_masks(small(), share=0.04)
    masks["stem.weight"][0, 0, 0, 0] = True
    dense, sparse = small(), small()

    train(dense, images_of(18), RECIPE, seeded(1), masks=masks)
    train(sparse, images_of(18), replace(RECIPE, kernels="sparse"), seeded(1), masks=masks)

    for name, tensor in dense.state_dict().items():
        torch.testing.assert_close(tensor, sparse.state_dict()[name], rtol=1e-3, atol=1e-4)
