"""`sparse_training`: masks that change in a loop of one's own, as they do in a spec's run."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

import autosparse
from autosparse import Masks, sparse_training
from autosparse.api import SparseTraining
from autosparse.core.training.update_rules import exchanged
from autosparse.errors import UsageError

STEPS = 24
METHODS = ["rigl", "set", "pwmpr", "gmp", "ac_dc", "lr_rewinding"]
X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(32) % 4


def network() -> nn.Sequential:
    """Two linear layers with BatchNorm between them; always the same."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """A standard loop over one batch."""
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()


def trained(method: Any, kind: str = "SGD", steps: int = STEPS) -> tuple[nn.Module, SparseTraining]:
    """A network trained with changing masks, at sparsity 0.75."""
    model = network()
    optimizer = optimizer_of(kind, model)
    training = sparse_training(model, optimizer, steps=STEPS, sparsity=0.75, method=method, batches=[(X, Y)])
    loop(model, optimizer, steps)
    return model, training


def optimizer_of(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, with weight decay."""
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    return torch.optim.AdamW(model.parameters(), lr=0.01)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("method", METHODS)
def test_masks_change_and_hold(method: str, kind: str) -> None:
    """At the end exactly the requested weights are left, all others are zero, and masks have changed."""
    model, training = trained(method, kind)

    assert training.masks.kept == round(0.25 * training.masks.total)
    assert training.changes
    for name, weight in model.named_parameters():
        if name in training.masks:
            assert not bool(weight.detach()[~training.masks[name]].any())


@pytest.mark.parametrize("method", METHODS)
def test_masked_weights_are_zero_between_steps(method: str) -> None:
    """After every single step, also one that lets the gradients of masked weights pass."""
    model = network()
    optimizer = optimizer_of("SGD", model)
    training = sparse_training(model, optimizer, steps=STEPS, sparsity=0.75, method=method, batches=[(X, Y)])
    for _ in range(STEPS):
        loop(model, optimizer, 1)
        for name, mask in training.masks.items():
            assert not bool(model.get_parameter(name).detach()[~mask].any())


def test_rigl_takes_the_largest_gradients() -> None:
    """The first update, at step 0, is the exchange by |w| and |g| of the masked network, and no step of weights."""
    method = {"preset": "rigl", "updates": {"name": "drop_and_grow", "every": 100, "share": 0.5}}
    model = network()
    optimizer = optimizer_of("SGD", model)
    training = sparse_training(model, optimizer, steps=STEPS, sparsity=0.75, method=method, batches=[(X, Y)])
    masks, reference = Masks(training.masks), network()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    loop(model, optimizer, 1)
    for name, mask in masks.items():
        weight = reference.get_parameter(name)
        weight.data.mul_(mask)
    nn.functional.cross_entropy(reference(X), Y).backward()

    for name, mask in masks.items():
        weight = reference.get_parameter(name)
        assert weight.grad is not None
        expected = exchanged(mask, weight.detach().abs(), weight.grad.abs(), int(0.5 * int(mask.sum())))
        assert torch.equal(expected, training.masks[name])
        kept = expected & mask
        assert torch.equal(before[name][kept], model.get_parameter(name).detach()[kept])
    assert torch.equal(before["0.bias"], model.get_parameter("0.bias").detach())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "order"), [("SGD", 1), ("AdamW", 1), ("SGD", -1)])
def test_a_checkpoint_continues_bit_for_bit(method: str, kind: str, order: int) -> None:
    """Model, optimizer and training loaded in the middle, in either order, end with the same weights and masks."""
    options = {"steps": STEPS, "sparsity": 0.75, "method": with_few_updates(method), "batches": [(X, Y)]}
    model = network()
    optimizer = optimizer_of(kind, model)
    training = sparse_training(model, optimizer, **options)
    loop(model, optimizer, STEPS // 2)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, training)], buffer)
    loop(model, optimizer, STEPS - STEPS // 2)
    buffer.seek(0)

    resumed = network()
    again = optimizer_of(kind, resumed)
    handle = sparse_training(resumed, again, **options)
    parts: list[Any] = [resumed, again, handle]
    for part, state in [*zip(parts, torch.load(buffer, weights_only=True), strict=True)][::order]:
        part.load_state_dict(state)
    loop(resumed, again, STEPS - STEPS // 2)

    assert training.masks == handle.masks
    assert training.changes == handle.changes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def with_few_updates(method: str) -> Any:
    """The preset, with four steps between two updates of dynamic sparse training."""
    if method not in ("rigl", "set"):
        return method
    grow = "gradient" if method == "rigl" else "random"
    return {"preset": method, "updates": {"name": "drop_and_grow", "grow": grow, "every": 4}}


def test_after_removal_weights_train_freely() -> None:
    """The `with` block ends the changes and the hold."""
    model = network()
    optimizer = optimizer_of("SGD", model)
    with sparse_training(model, optimizer, steps=STEPS, sparsity=0.75, method="set") as training:
        loop(model, optimizer, 3)
    changes = len(training.changes)
    loop(model, optimizer, 3)

    assert changes == len(training.changes)
    assert bool(model.get_parameter("0.weight").detach()[~training.masks["0.weight"]].any())


def test_gradients_of_masked_weights_are_zero_except_at_updates() -> None:
    """Clipping and optimizers see no gradients of pruned weights, but at the steps that change masks."""
    model = network()
    optimizer = optimizer_of("SGD", model)
    method = {"preset": "set", "updates": {"name": "drop_and_grow", "grow": "random", "every": 4}}
    training = sparse_training(model, optimizer, steps=STEPS, sparsity=0.75, method=method, batches=[(X, Y)])
    passed = []
    for step in range(8):
        mask = training.masks["0.weight"]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        gradient = model.get_parameter("0.weight").grad
        assert gradient is not None
        passed += [step] if bool(gradient[~mask].any()) else []
        optimizer.step()

    assert [0, 4] == passed


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"method": "snip"}, "keeps its masks during training"),
        ({"steps": 0}, "`steps` must be a whole number above 0"),
        ({"steps": 2.5}, "`steps` must be a whole number above 0"),
        ({"method": {"preset": "gmp", "criterion": "snip"}}, "criterion `snip` needs more"),
        ({"method": {"preset": "rigl", "unit": "channel"}}, "changes single weights"),
        ({"method": {"preset": "gmp", "horizon": 10}}, "starts dense"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": 0.99999}, "leaves 0 of 384 weights"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, Any], part: str) -> None:
    """One sentence names the argument; the model stays as it was."""
    model = network()
    optimizer = optimizer_of("SGD", model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match=part):
        sparse_training(model, optimizer, **{"steps": STEPS, "sparsity": 0.75, **arguments})

    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


def test_a_step_without_gradients_is_an_error_for_rigl() -> None:
    """Growth by gradients needs them before the step."""
    model = network()
    optimizer = optimizer_of("SGD", model)
    sparse_training(model, optimizer, steps=STEPS, sparsity=0.75)
    with pytest.raises(UsageError, match="has no gradient before"):
        optimizer.step()


def test_prune_points_to_sparse_training() -> None:
    """`prune` makes masks before training."""
    with pytest.raises(UsageError, match="changes masks during training") as caught:
        autosparse.prune(network(), sparsity=0.75, method="rigl")

    assert caught.value.hint is not None
    assert "sparse_training" in caught.value.hint


def test_prune_has_no_weights_to_return() -> None:
    """A search that does not rewind belongs to a training."""
    method = {"preset": "mask_search", "schedule": {"name": "search", "rewind": False}}
    with pytest.raises(UsageError, match="`prune` returns masks alone"):
        autosparse.prune(network(), sparsity=0.75, method=method, batches=[(X, Y)])


def test_growth_by_paths_needs_the_shape_of_inputs() -> None:
    """Without batches the call itself is an error, not a step in the middle of training."""
    model = network()
    with pytest.raises(UsageError, match="there are no batches"):
        sparse_training(model, optimizer_of("SGD", model), steps=STEPS, sparsity=0.75, method="pwmpr")
