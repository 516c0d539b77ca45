"""Masked weights stay zero, whatever moves them, until they are let go."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import autosparse
from autosparse import Masks
from autosparse.errors import UsageError
from tests.api.conftest import batches, checkered, masked, network, train, trained

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "weight decay": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5),
    "foreach": lambda model: torch.optim.Adam(model.parameters(), lr=0.1, foreach=True),
    "fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),
    "named": lambda model: torch.optim.RMSprop(model.named_parameters(), lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masks_hold_through_every_step(name: str) -> None:
    """After steps with momentum, decay or second moments gathered before, masked weights are zero, others train."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS[name](model)
    train(model, optimizer)  # what the optimizer remembers now would bring masked weights back

    masks.hold(optimizer)

    assert 0 == masked(model, masks).count_nonzero()
    before = model.get_parameter("5.weight").detach().clone()
    train(model, optimizer)
    assert 0 == masked(model, masks).count_nonzero()
    assert not torch.equal(before, model.get_parameter("5.weight"))


def test_without_a_hold_momentum_brings_weights_back() -> None:
    """What `apply` zeroes once does not stay zero: this is why there is `hold`."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)
    masks.apply(model)
    train(model, optimizer)

    assert masked(model, masks).count_nonzero() > 0


def test_a_reloaded_state_is_masked_at_once() -> None:
    """`load_state_dict` with a dense state leaves masked weights zero and kept ones as loaded."""
    model = network()
    dense = copy.deepcopy(model.state_dict())
    masks = checkered(model)
    masks.hold(OPTIMIZERS["momentum"](model))

    model.load_state_dict(dense)

    assert 0 == masked(model, masks).count_nonzero()
    assert torch.equal(dense["5.weight"] * masks["5.weight"], model.get_parameter("5.weight"))


@pytest.mark.parametrize("assign", [False, True])
def test_a_reloaded_layer_is_masked_at_once(assign: bool) -> None:
    """So does a state loaded into one layer alone, copied or assigned."""
    model = network()
    layer = model[5]
    assert isinstance(layer, nn.Linear)
    dense = copy.deepcopy(layer.state_dict())
    masks = checkered(model)
    masks.hold(OPTIMIZERS["momentum"](model))

    layer.load_state_dict(dense, assign=assign)

    assert 0 == masked(model, masks).count_nonzero()


def test_a_reloaded_tied_weight_is_masked_at_once() -> None:
    """A weight that an embedding shares is loaded through both, and masked after the last."""
    model = nn.ModuleDict({"head": nn.Linear(4, 3, bias=False), "embedding": nn.Embedding(3, 4)})
    model["embedding"].weight = model["head"].weight
    dense = {name: torch.ones(3, 4) for name in ("head.weight", "embedding.weight")}
    masks = Masks({"head.weight": torch.eye(3, 4).bool()}, model=model)
    masks.hold(torch.optim.SGD(model.parameters(), lr=0.1))

    model.load_state_dict(dense)

    assert torch.equal(torch.eye(3, 4), model.get_parameter("head.weight"))


def test_a_reloaded_optimizer_state_brings_nothing_back() -> None:
    """Momentum from before the pruning, loaded into the optimizer, moves no masked weight."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)
    train(model, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    masks.hold(optimizer)

    optimizer.load_state_dict(state)
    train(model, optimizer)

    assert 0 == masked(model, masks).count_nonzero()


def test_an_average_of_held_weights_has_their_zeros() -> None:
    """An EMA copy begun under a hold keeps masked weights at zero; an older one takes the masks by `apply`."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)
    older = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    masks.hold(optimizer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    masks.apply(older)
    for _ in range(3):
        train(model, optimizer, steps=1)
        average.update_parameters(model)
        older.update_parameters(model)

    assert 0 == masked(average.module, masks).count_nonzero()
    assert 0 == masked(older.module, masks).count_nonzero()
    assert trained(average.module, masks)


def test_a_removed_hold_lets_go() -> None:
    """After `remove`, weights train again and states load whole, in copies too."""
    model = network()
    dense = copy.deepcopy(model.state_dict())
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)
    handle = masks.hold(optimizer)
    duplicate = copy.deepcopy(model)
    handle.remove()

    train(model, optimizer)
    duplicate.load_state_dict(dense)

    assert masked(model, masks).count_nonzero() > 0
    assert masked(duplicate, masks).count_nonzero() > 0
    assert not any(module._load_state_dict_post_hooks for module in model.modules())


def test_a_hold_ends_with_its_block() -> None:
    """In a `with` statement the hold is in force until the block ends."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)

    with masks.hold(optimizer):
        train(model, optimizer)
        assert 0 == masked(model, masks).count_nonzero()

    train(model, optimizer)
    assert masked(model, masks).count_nonzero() > 0


def test_a_copy_of_a_held_model_stays_masked_when_it_loads() -> None:
    """Copied or pickled, a held model masks the states that it loads."""
    model = network()
    dense = copy.deepcopy(model.state_dict())
    masks = checkered(model)
    masks.hold(OPTIMIZERS["momentum"](model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)

    for duplicate in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        duplicate.load_state_dict(dense)

        assert 0 == masked(duplicate, masks).count_nonzero()
        assert trained(duplicate, masks)


def test_model_and_masks_copied_together_belong_together() -> None:
    """The copy of masks that is made with a model holds the copied model."""
    model = network()
    first, masks = copy.deepcopy((model, checkered(model)))
    optimizer = OPTIMIZERS["momentum"](first)

    masks.hold(optimizer)
    train(first, optimizer)

    assert 0 == masked(first, masks).count_nonzero()
    assert masked(model, masks).count_nonzero() > 0


def test_several_optimizers_hold_together() -> None:
    """Optimizers that each train a part are held in one call, and each zeroes its part."""
    model = network()
    masks = checkered(model)
    first = torch.optim.SGD(model[:3].parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.AdamW(model[3:].parameters(), lr=0.1)

    masks.hold(first, second)
    train(model, first, second)

    assert 0 == masked(model, masks).count_nonzero()


def test_masks_follow_a_model_that_changes_its_precision() -> None:
    """Weights that are moved after the hold are still held."""
    model = network()
    masks, optimizer = checkered(model), torch.optim.SGD(model.parameters(), lr=0.1)
    masks.hold(optimizer)
    model.double()
    nn.functional.cross_entropy(model(batches()[0][0].double()), batches()[0][1]).backward()
    optimizer.step()

    assert 0 == masked(model, masks).count_nonzero()
    assert torch.float64 == masked(model, masks).dtype


def test_values_that_are_not_numbers_are_zeroed_too() -> None:
    """A masked weight whose gradient was not a number is zero, as zero times it would not be."""
    model = nn.Linear(2, 1, bias=False)
    masks = Masks({"weight": torch.tensor([[True, False]])}, model=model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks.hold(optimizer)
    model.weight.grad = torch.tensor([[1.0, torch.nan]])
    optimizer.step()

    assert 0.0 == float(model.weight.detach()[0, 1])


def test_steps_that_a_scaler_skips_change_nothing() -> None:
    """A step that gradient scaling skips leaves masks and weights as they are."""
    model = network()
    masks, optimizer = checkered(model), OPTIMIZERS["momentum"](model)
    masks.hold(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    before = model.get_parameter("5.weight").detach().clone()
    inputs, labels = batches()[0]
    scaler.scale(nn.functional.cross_entropy(model(inputs * torch.inf), labels)).backward()
    scaler.step(optimizer)
    scaler.update()

    assert torch.equal(before, model.get_parameter("5.weight"))
    assert 0 == masked(model, masks).count_nonzero()


def test_pruned_masks_know_their_model() -> None:
    """Masks from `prune` hold at once, without `apply`, and compiled or parallel wrappers change nothing."""
    model = network()
    compiled: Any = torch.compile(model, backend="eager")
    wrapped = nn.DataParallel(compiled)
    masks = autosparse.prune(wrapped, batches(), sparsity=0.5, method="snip")
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)

    masks.hold(optimizer)
    train(model, optimizer)

    assert ["0.weight", "5.weight"] == list(masks)
    assert 0 == masked(model, masks).count_nonzero()


def test_an_optimizer_of_another_model() -> None:
    """An optimizer that holds none of the weights is refused, and no hook is left."""
    model = network()

    with pytest.raises(UsageError, match="the optimizer SGD holds none of the 2 masked weights"):
        checkered(model).hold(torch.optim.SGD(network().parameters(), lr=0.1))

    assert not any(module._load_state_dict_post_hooks for module in model.modules())
    assert trained(model, checkered(model))


def test_an_optimizer_of_a_part() -> None:
    """Weights that no optimizer holds are named, unless they are frozen."""
    model = network()
    masks, part = checkered(model), torch.optim.SGD(model[:3].parameters(), lr=0.1)

    with pytest.raises(UsageError, match=r"1 of 2 masked weights are in no optimizer: 5\.weight"):
        masks.hold(part)

    model[5].requires_grad_(False)
    masks.hold(part).remove()


@pytest.mark.parametrize(
    ("optimizers", "sentence"),
    [
        ([], "needs the optimizer that trains the model"),
        ([object()], "takes optimizers of torch.optim but was given object"),
    ],
)
def test_what_is_no_optimizer(optimizers: list[object], sentence: str) -> None:
    """Without an optimizer there is nothing to hold."""
    model = network()

    with pytest.raises(UsageError, match=sentence):
        checkered(model).hold(*optimizers)  # type: ignore[arg-type]


def test_masks_that_know_no_model() -> None:
    """Masks of a file must be told which model they hold; those of a model that is gone say so."""
    model = network()
    unbound, bound = Masks(checkered(model)), checkered(network())
    gc.collect()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(UsageError, match="do not know which model"):
        unbound.hold(optimizer)
    with pytest.raises(UsageError, match="model is gone"):
        bound.hold(optimizer)
    unbound.hold(optimizer, model=model).remove()
