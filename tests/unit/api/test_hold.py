"""Masked weights stay zero, whatever moves them, until they are let go."""

from __future__ import annotations

import copy
import gc
import importlib
import io
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import autosparse
from autosparse import Masks
from autosparse.errors import UsageError
from tests.unit.api.conftest import batches, checkered, masked, network, train, trained

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
    """Weights zeroed once by `apply` do not stay zero: this is why `hold` exists."""
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

    with pytest.raises(UsageError, match="the optimizer SGD holds no parameter of the model"):
        checkered(model).hold(torch.optim.SGD(network().parameters(), lr=0.1))

    assert not any(module._load_state_dict_post_hooks for module in model.modules())
    assert trained(model, checkered(model))


def test_an_optimizer_that_was_not_passed_is_held_too() -> None:
    """Weights are zeroed after the step of whichever optimizer has them, also one that `hold` was not given."""
    model = network()
    masks = checkered(model)
    first = torch.optim.SGD(model[:3].parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.AdamW(model[3:].parameters(), lr=0.1, weight_decay=0.5)
    train(model, first, second)

    masks.hold(first)
    train(model, first, second)

    assert 0 == masked(model, masks).count_nonzero()


def test_optimizers_without_a_masked_weight() -> None:
    """An optimizer of biases alone is refused, unless another has a masked weight or none trains yet."""
    model = network()
    masks = checkered(model)
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim > 1], lr=0.1, momentum=0.9)
    others = torch.optim.AdamW([p for p in model.parameters() if p.ndim < 2], lr=0.1)

    with pytest.raises(UsageError, match="the optimizers hold none of the 2 masked weights"):
        masks.hold(others)
    masks.hold(matrices, others)
    train(model, matrices, others)

    assert 0 == masked(model, masks).count_nonzero()


def test_a_layer_that_is_unfrozen_and_added_later() -> None:
    """A weight frozen at the hold is held once it trains in a new parameter group, its gradient too."""
    model = network()
    masks = checkered(model)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[5].parameters(), lr=0.1, momentum=0.9)
    masks.hold(optimizer)
    train(model, optimizer)
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": [*model[0].parameters()], "weight_decay": 0.5})

    train(model, optimizer)
    nn.functional.cross_entropy(model(batches()[0][0]), batches()[0][1]).backward()

    gradient = model.get_parameter("0.weight").grad
    assert gradient is not None
    assert 0 == gradient[~masks["0.weight"]].count_nonzero()
    assert 0 == masked(model, masks).count_nonzero()


class TwoPhases(torch.optim.Optimizer):
    """Sharpness-aware minimization as it is often written: `up` and `down`, its own `step` is never called."""

    def __init__(self, parameters: Any, inside: type[torch.optim.Optimizer], *, by_data: bool) -> None:
        super().__init__(parameters, {"lr": 0.1})
        make: Any = inside
        self.inside = make(self.param_groups, lr=0.1)
        self.param_groups = self.inside.param_groups
        self.by_data = by_data

    def up(self) -> None:
        """Climb along the gradient, and along a noise that no gradient decides."""
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["before"] = parameter.data.clone()
            moved = parameter.data + 0.05 * parameter.grad + 0.01 * torch.randn_like(parameter)
            parameter.data.copy_(moved)

    def down(self) -> None:
        """Step from where `up` began."""
        for parameter in self.param_groups[0]["params"]:
            if self.by_data:
                parameter.data = self.state[parameter]["before"]
            else:
                parameter.data.copy_(self.state[parameter]["before"])
        self.inside.step()


@pytest.mark.parametrize("inside", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("by_data", [False, True])
def test_an_optimizer_that_is_driven_by_methods_of_its_own(inside: type[torch.optim.Optimizer], by_data: bool) -> None:
    """If `step` of the held optimizer is never called, the inner one's zeroes weights, and so does a forward pass."""
    model = network()
    masks, optimizer = checkered(model), TwoPhases(model.parameters(), inside, by_data=by_data)
    masks.hold(optimizer)
    inputs, labels = batches()[0]
    for _ in range(3):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.up()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        assert 0 == masked(model, masks).count_nonzero()
        loss.backward()
        optimizer.down()
        optimizer.zero_grad()

    assert 0 == masked(model, masks).count_nonzero()
    assert trained(model, masks)


class Lookahead(torch.optim.Optimizer):
    """A wrapper that never runs the initializer of its base class, and moves weights after the step inside."""

    def __init__(self, inside: torch.optim.Optimizer) -> None:
        self.inside = inside
        self.param_groups = inside.param_groups
        self.state, self.defaults = inside.state, inside.defaults
        self.slow = [p.detach().clone() for group in inside.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.inside.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step, and go back half of the way to the slow weights."""
        self.inside.step()
        fast = [p for group in self.inside.param_groups for p in group["params"]]
        with torch.no_grad():
            for weight, slow in zip(fast, self.slow, strict=True):
                slow.lerp_(weight, 0.5)
                weight.copy_(slow)


def test_a_wrapper_without_hooks() -> None:
    """An optimizer that lacks torch's hooks is held by its `step`, which schedulers may wrap; `remove` restores it."""
    model = network()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    masks = checkered(model)

    handle = masks.hold(optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer)
    scheduler.step()

    assert 0 == masked(model, masks).count_nonzero()
    handle.remove()
    train(model, optimizer)
    assert masked(model, masks).count_nonzero() > 0


def test_the_norm_of_gradients_is_that_of_kept_weights() -> None:
    """`clip_grad_norm_` sees no gradient of a pruned weight, however many passes add to it."""
    model = network()
    masks, optimizer = checkered(model), torch.optim.SGD(model.parameters(), lr=0.1)
    masks.hold(optimizer)
    inputs, labels = batches()[0]
    for _ in range(2):
        nn.functional.cross_entropy(model(inputs), labels).backward()
    parts = [model.get_parameter(name).grad for name in masks]
    assert all(
        part is not None and 0 == part[~masks[name]].count_nonzero() for name, part in zip(masks, parts, strict=True)
    )
    kept = [p.grad[masks[n]] if n in masks else p.grad for n, p in model.named_parameters() if p.grad is not None]
    expected = torch.cat([part.flatten() for part in kept]).norm()

    torch.testing.assert_close(expected, torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))


def test_a_state_that_is_saved_is_masked() -> None:
    """`state_dict` has zeros where a hand-written update moved masked weights."""
    model = network()
    masks = checkered(model)
    masks.hold(torch.optim.SGD(model.parameters(), lr=0.1))
    with torch.no_grad():
        model.get_parameter("5.weight").add_(1.0)

    assert 0 == model.state_dict()["5.weight"][~masks["5.weight"]].count_nonzero()


def test_a_hold_does_not_keep_a_model() -> None:
    """A held model that is thrown away is freed, and its hook on optimizers goes with the next hold."""
    hooks = importlib.import_module("torch.optim.optimizer")._global_optimizer_post_hooks
    before = len(hooks)
    model = network()
    checkered(model).hold(torch.optim.SGD(model.parameters(), lr=0.1))
    gone = weakref.ref(model)
    assert before + 1 == len(hooks)
    del model
    gc.collect()

    other = network()
    train(other, optimizer := torch.optim.SGD(other.parameters(), lr=0.1))
    checkered(other).hold(optimizer).remove()

    assert gone() is None
    assert before >= len(hooks)


def test_pruning_a_held_model_again() -> None:
    """A hold moves nothing in the copy that is scored: masks are those of the same weights without one."""
    model = network()
    masks, optimizer = checkered(model), torch.optim.SGD(model.parameters(), lr=0.1)
    masks.apply(model)
    method = {"preset": "mask_search", "schedule": {"name": "search", "steps": 3}}
    expected = autosparse.prune(copy.deepcopy(model), batches(), sparsity=0.3, method=method)
    masks.hold(optimizer)

    assert expected == autosparse.prune(model, batches(), sparsity=0.3, method=method)


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
    """Masks of a file must be given the model they hold; masks that were pruned keep theirs."""
    model = network()
    unbound, bound = Masks(checkered(model)), checkered(network())
    gc.collect()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(UsageError, match="do not know which model"):
        unbound.hold(optimizer)
    with pytest.raises(UsageError, match="no parameter of the model"):
        bound.hold(optimizer)
    unbound.hold(optimizer, model=model).remove()
