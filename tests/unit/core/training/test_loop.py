"""The training loop: the same numbers as a plain one, and masks that hold."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.images import Images, epoch
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.optimizers import Update
from autosparse.core.training.recipe import Recipe, learning_rate, training_steps_of
from autosparse.core.weights import Tensors, prunable_weights
from tests.unit.core.conftest import (
    CLASSES,
    SHAPE,
    Small,
    assert_same,
    images_of,
    random_masks,
    seeded,
    small,
    snapshot,
)

Optimizer = Literal["sgd", "adamw"]
SHORT = Recipe(epochs=3, batch=4, lr=0.05, crop=1, flip=True, precision="float32")


def recipe(optimizer: Optimizer, base: Recipe = SHORT) -> Recipe:
    """A short recipe with a learning rate that suits the optimizer."""
    return replace(base, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 0.005)


def multilayer() -> nn.Module:
    """Linear layers only, with random weights that are always the same."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 7), nn.ReLU(), nn.Linear(7, CLASSES))
    generator = seeded(1)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return network


def network_of(kind: str) -> nn.Module:
    """A network with convolutions and BatchNorm, one with linear layers only, or one with kernels of one pixel."""
    if kind == "linear":
        return multilayer()
    network = small()
    if kind == "pointwise":
        network.stem = nn.Conv2d(2, 4, 1, bias=False)
        network.conv = nn.Conv2d(4, 5, (1, 2), stride=2, padding=(0, 1))
        generator = seeded(2)
        for parameter in (*network.stem.parameters(), *network.conv.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return network


def plainly(network: nn.Module, images: Images, given: Recipe, seed: int, masks: Tensors | None) -> list[float]:
    """The training loop as one would write it without any of its tricks."""
    network.train()
    parameters = list(network.parameters())
    optimizer: torch.optim.Optimizer
    if given.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, weight_decay=given.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            parameters, momentum=given.momentum, nesterov=given.nesterov, weight_decay=given.weight_decay
        )
    steps, step, history = given.epochs * math.ceil(len(images) / given.batch), 0, []
    generator = seeded(seed)

    def mask() -> None:
        for name, weight in prunable_weights(network).items():
            if masks is not None:
                weight.data *= masks[name]

    mask()
    for _ in range(int(given.epochs)):
        losses = []
        for inputs, labels in epoch(images, batch=given.batch, crop=given.crop, flip=given.flip, generator=generator):
            optimizer.param_groups[0]["lr"] = given.lr * learning_rate(given, step / steps)
            loss = nn.functional.cross_entropy(network(inputs), labels, label_smoothing=given.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mask()
            losses += [loss.item()] * len(labels)
            step += 1
        history.append(sum(losses) / len(images))
    return history


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["convolution", "pointwise", "linear"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_agrees_with_a_plain_loop(optimizer: Optimizer, kind: str, masked: bool) -> None:
    """One flat vector of parameters trains to the same weights, statistics and losses as separate tensors do."""
    images, network = images_of(18), network_of(kind)
    plain = copy.deepcopy(network)
    masks = random_masks(network) if masked else None
    given = replace(recipe(optimizer), weight_decay=0.01, label_smoothing=0.1)
    initial = snapshot(network)

    history = train(network, images, given, seeded(5), masks=masks)
    expected = plainly(plain, images, given, 5, masks)

    assert given.epochs == len(history)
    torch.testing.assert_close(torch.tensor(expected), torch.tensor(history), rtol=1e-4, atol=1e-5)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)
    assert any(not torch.allclose(initial[name], tensor, atol=1e-3) for name, tensor in snapshot(network).items())


@pytest.mark.parametrize("kind", ["convolution", "pointwise", "linear"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masks_hold_after_every_step(optimizer: Optimizer, kind: str) -> None:
    """A masked weight is zero after each step, through momentum and weight decay; the others and the rest move."""
    images, network = images_of(12), network_of(kind)
    masks = random_masks(network, share=0.4)
    initial = snapshot(network)
    looks = 0

    def look(done: int, total: int, loss: float) -> None:
        nonlocal looks
        looks += 1
        for name, weight in prunable_weights(network).items():
            assert 0 == int(weight[~masks[name]].count_nonzero()), (done, name)
            assert int(masks[name].sum()) == int(weight[masks[name]].count_nonzero()), (done, name)

    # A batch as large as the set: every epoch is one step.
    one_step = replace(recipe(optimizer), epochs=6, batch=12, weight_decay=0.1)
    train(network, images, one_step, seeded(), masks=masks, observe=look)

    assert 6 == looks
    for name, tensor in network.state_dict().items():
        moved = initial[name] != tensor
        assert bool(moved.any()), name


def test_masks_of_one_weight_and_of_all() -> None:
    """The highest sparsity leaves one weight that trains; sparsity zero is the same as no masks at all."""
    one = {name: torch.zeros(weight.shape, dtype=torch.bool) for name, weight in prunable_weights(small()).items()}
    one["stem.weight"][1, 1, 2, 0] = True
    every = {name: torch.ones_like(mask) for name, mask in one.items()}
    sparse, full, dense = small(), small(), small()

    train(sparse, images_of(12), SHORT, seeded(), masks=one)
    train(full, images_of(12), SHORT, seeded(), masks=every)
    train(dense, images_of(12), SHORT, seeded())

    assert 1 == sum(int(weight.count_nonzero()) for weight in prunable_weights(sparse).values())
    assert_same(snapshot(dense), snapshot(full))


@pytest.mark.parametrize("given", [torch.bool, torch.float32, torch.uint8])
def test_masks_may_have_any_type_and_are_not_modified(given: torch.dtype) -> None:
    """Masks of zeros and ones in any type mean the same, and are left as they were."""
    expected, network = small(), small()
    masks = random_masks(network)
    cast = {name: mask.to(given) for name, mask in masks.items()}
    before = {name: mask.clone() for name, mask in cast.items()}

    train(expected, images_of(12), SHORT, seeded(), masks=masks)
    train(network, images_of(12), SHORT, seeded(), masks=cast)

    assert_same(snapshot(expected), snapshot(network))
    assert_same(before, cast)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_seed_is_bit_identical(optimizer: Optimizer) -> None:
    """The same network, images and generator give the same weights and losses bit for bit; another seed others."""
    networks = [small() for _ in range(3)]
    random = torch.get_rng_state()
    histories = [
        train(network, images_of(18), recipe(optimizer), seeded(seed))
        for network, seed in zip(networks, (3, 3, 4), strict=True)
    ]

    assert histories[0] == histories[1]
    assert histories[0] != histories[2]
    assert_same(snapshot(networks[0]), snapshot(networks[1]))
    assert torch.equal(random, torch.get_rng_state())


def batches_seen(masks: Tensors | None, optimizer: Optimizer = "sgd") -> list[Tensor]:
    """The inputs that a network meets in training."""
    network, seen = small(), list[Tensor]()

    def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            seen.append(inputs[0].clone())

    network.register_forward_pre_hook(see)
    train(network, images_of(10), recipe(optimizer), seeded(1), masks=masks)
    return seen


def test_batches_do_not_depend_on_the_method() -> None:
    """Under any masks and optimizer a seed means the same images, augmented the same way, in the same order."""
    expected = batches_seen(None)

    assert 9 == len(expected)
    for other in (batches_seen(random_masks(small(), share=0.1)), batches_seen(None, "adamw")):
        assert all(torch.equal(first, second) for first, second in zip(expected, other, strict=True))


def test_network_learns() -> None:
    """Bright and dark images are separated, losses fall, and accuracy is in percent."""
    labels = torch.arange(64) % 2
    pixels = (labels * 155)[:, None, None, None] + torch.randint(0, 100, (64, 6, 6, 2), generator=seeded())
    images = Images(pixels.to(torch.uint8), labels, torch.full((2,), 0.5), torch.full((2,), 0.25))
    network = Small()
    for parameter, start in zip(network.parameters(), small().parameters(), strict=True):
        parameter.data.copy_(start)

    history = train(network, images, replace(SHORT, epochs=12, batch=16), seeded())

    assert history[-1] < history[0] / 2
    assert accuracy(network, images, "float32") > 95


def test_state_loads_into_a_fresh_network() -> None:
    """After training the state dict has the shapes, names and values that a fresh network takes and works with."""
    network, fresh = small(), Small()
    train(network, images_of(12), SHORT, seeded(), masks=random_masks(network))

    fresh.load_state_dict(network.state_dict())

    assert_same(snapshot(network), snapshot(fresh))
    assert list(Small().state_dict()) == list(network.state_dict())
    inputs, _ = next(images_of(5).in_order(5))
    torch.testing.assert_close(network.eval()(inputs), fresh.eval()(inputs))


def test_training_can_go_on() -> None:
    """A trained network can be trained again: its parameters are still the ones that its layers use."""
    network = small()
    train(network, images_of(12), SHORT, seeded())
    before = snapshot(network)

    train(network, images_of(12), SHORT, seeded())

    assert all(not torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


class Idle(nn.Module):
    """A network with a layer that takes no part and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.network = multilayer()
        self.idle = nn.Linear(3, 3)
        self.frozen = nn.Linear(CLASSES, CLASSES).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.frozen(self.network(x))
        return output


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_parameters_without_gradient(optimizer: Optimizer) -> None:
    """Unused parameters have gradient zero and move by weight decay alone; frozen ones do not move."""
    network = Idle()
    before = snapshot(network)

    train(network, images_of(12), replace(recipe(optimizer), weight_decay=0.0), seeded())

    for name, tensor in network.state_dict().items():
        still = name.startswith(("idle", "frozen"))
        assert still == torch.equal(before[name], tensor), name
    assert network.idle.weight.grad is not None
    assert 0 == int(network.idle.weight.grad.count_nonzero())

    train(network, images_of(12), replace(recipe(optimizer), weight_decay=0.5), seeded())

    assert bool((network.idle.weight.abs() < before["idle.weight"].abs()).all())
    assert torch.equal(before["frozen.weight"], network.frozen.weight)


def test_bfloat16_keeps_weights_in_float32() -> None:
    """In bfloat16 only the forward pass is rounded: the weights stay float32 and masks hold."""
    network = small()
    masks = random_masks(network)

    history = train(network, images_of(12), replace(SHORT, precision="bfloat16"), seeded(), masks=masks)

    assert all(math.isfinite(loss) for loss in history)
    for name, weight in prunable_weights(network).items():
        assert torch.float32 == weight.dtype
        assert 0 == int(weight[~masks[name]].count_nonzero())


def test_network_is_in_training_mode_and_channels_last() -> None:
    """A network given in evaluation mode is trained in training mode, its kernels channels last."""
    network = small().eval()
    modes: list[bool] = []
    network.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))

    train(network, images_of(8), SHORT, seeded())

    assert [False, False] == modes[:2]  # the trial of memory layouts
    assert {True} == set(modes[2:])
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_observer_is_told_of_every_epoch() -> None:
    """The observer hears of each epoch, with the number of all of them and its mean loss."""
    events: list[tuple[int, int, float]] = []

    losses = train(small(), images_of(5), SHORT, seeded(), observe=lambda *epoch: events.append(epoch))

    assert [(1, 3, losses[0]), (2, 3, losses[1]), (3, 3, losses[2])] == events


class Same(nn.Module):
    """Says class 1 in training mode and class 2 otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return nn.functional.one_hot(torch.full((len(x),), 1 if self.training else 2), CLASSES).float()


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_accuracy_by_hand(batch: int) -> None:
    """Accuracy is the share of right answers in percent, in evaluation mode, however the images are split."""
    images = replace(images_of(8), labels=torch.tensor([2, 2, 2, 1, 1, 1, 0, 2]))

    assert 50.0 == accuracy(Same().train(), images, "float32", batch=batch)


def test_accuracy_does_not_move_running_statistics() -> None:
    """Measuring leaves the whole state as it was."""
    network = small()
    before = snapshot(network)

    accuracy(network, images_of(9), "float32")

    assert_same(before, snapshot(network))


ANY = Recipe(warmup=0.0)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "steps", "constant"])
@given(warmup=st.floats(0, 0.99), progress=st.floats(0, 1, exclude_max=True))
def test_learning_rate_stays_below_its_peak(
    schedule: Literal["cosine", "one_cycle", "steps", "constant"], warmup: float, progress: float
) -> None:
    """At every moment the learning rate is between zero and its peak."""
    assert 0 <= learning_rate(Recipe(schedule=schedule, warmup=warmup), progress) <= 1 + 1e-12


def test_learning_rate_by_hand() -> None:
    """Warmup is linear from 0.04; then cosine, steps and constant as their names say; one cycle peaks at 0.3."""
    warm = Recipe(warmup=0.2)

    assert [0.04, 0.52, 1.0] == [pytest.approx(learning_rate(warm, at)) for at in (0.0, 0.1, 0.2)]
    assert [1.0, 0.5, 0.0] == [pytest.approx(learning_rate(ANY, at), abs=1e-12) for at in (0.0, 0.5, 1.0)]
    steps = replace(ANY, schedule="steps", drops=(0.25, 0.5), drop=0.1)
    assert [1.0, 0.1, 0.1, 0.01] == [pytest.approx(learning_rate(steps, at)) for at in (0.2, 0.25, 0.4, 0.9)]
    assert {1.0} == {learning_rate(replace(ANY, schedule="constant"), at / 10) for at in range(10)}
    cycle = replace(ANY, schedule="one_cycle")
    assert [0.04, 0.52, 1.0, 0.5] == [pytest.approx(learning_rate(cycle, at)) for at in (0.0, 0.15, 0.3, 0.65)]


def test_a_mask_of_no_weight_is_refused() -> None:
    """A misspelt name is an error: the network would train dense without a word."""
    with pytest.raises(ValueError, match="weights that are not prunable: nope"):
        train(small(), images_of(8), SHORT, seeded(), masks={"nope": torch.ones(1, dtype=torch.bool)})


def test_a_mask_holds_on_a_weight_tied_to_an_embedding() -> None:
    """A mask finds its weight though the model's parameters name it after the embedding."""
    head = nn.Linear(4, CLASSES, bias=False)
    body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 4), head)
    embedding = nn.Embedding(CLASSES, 4)
    embedding.weight = head.weight
    tied = nn.ModuleDict({"embedding": embedding, "body": body})
    tied.forward = body.forward
    mask = torch.arange(CLASSES * 4).view(CLASSES, 4) % 2 == 0
    train(tied, images_of(8), SHORT, seeded(), masks={"body.2.weight": mask})

    assert bool((head.weight[~mask] == 0).all())
    assert bool((head.weight[mask] != 0).all())


def test_a_fraction_of_an_epoch_stops_halfway() -> None:
    """2.5 epochs of four batches are ten steps of one schedule; the loss of the last is that of the images it saw."""
    network, rates = multilayer(), []
    given = recipe("sgd", replace(SHORT, epochs=2.5, batch=5))
    original = Update.step

    def spy(self: Update) -> None:
        rates.append(self.lr)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "step", spy)
        history = train(network, images_of(20), given, seeded())

    assert 10 == training_steps_of(given, 20) == len(rates)
    assert [given.lr * learning_rate(given, step / 10) for step in range(10)] == pytest.approx(rates)
    assert 3 == len(history)
