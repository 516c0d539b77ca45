"""Masked weights stay zero in the loops that people write, with the libraries they use."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed.fsdp
import torch.distributed.optim
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from autosparse import Masks
from autosparse.errors import UsageError
from tests.unit.api.conftest import batches, checkered, masked, network, trained

Loop = Callable[[nn.Sequential, Callable[..., AbstractContextManager[object]]], nn.Module]
"""Train a network; the hold takes the optimizer. Returns the network that would be deployed."""
LOOPS: dict[str, Loop] = {}


def loop(function: Loop) -> Loop:
    """Register a loop by its name."""
    LOOPS[function.__name__] = function
    return function


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of a batch."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def momentum(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """SGD that remembers steps of the dense network and would move pruned weights."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, **options)
    for batch in batches():
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


@loop
def mixed_precision(model: nn.Sequential, hold: Any) -> nn.Module:
    """Autocast, GradScaler, accumulation of two batches and clipping of unscaled gradients."""
    optimizer, scaler = momentum(model), torch.amp.GradScaler("cpu", init_scale=16.0)
    with hold(optimizer):
        for number, batch in enumerate(batches(4)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, batch) / 2
            scaler.scale(loss).backward()
            if number % 2:
                scaler.unscale_(optimizer)
                clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    return model


@loop
def compiled_module(model: nn.Sequential, hold: Any) -> nn.Module:
    """`torch.compile` of the network."""
    optimizer = momentum(model)
    compiled: Any = torch.compile(model, backend="aot_eager")
    with hold(optimizer):
        for batch in batches():
            loss_of(compiled, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


@loop
def compiled_step(model: nn.Sequential, hold: Any) -> nn.Module:
    """`torch.compile` of the loss and of the step of the optimizer."""
    optimizer = momentum(model)
    loss: Any = torch.compile(loss_of, backend="aot_eager")
    step: Any = torch.compile(optimizer.step, backend="aot_eager")
    with hold(optimizer):
        for batch in batches():
            loss(model, batch).backward()
            step()
            optimizer.zero_grad()
    return model


@loop
def lbfgs(model: nn.Sequential, hold: Any) -> nn.Module:
    """A closure that the optimizer evaluates many times, with a line search."""
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
    batch = batches(1, 32)[0]

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)  # a memory of the dense network
    with hold(optimizer):
        for _ in range(2):
            optimizer.step(closure)
    return model


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization as published: `step` evaluates a closure at the perturbed weights."""

    def __init__(self, parameters: Any, base: Any, **options: Any) -> None:
        super().__init__(parameters, options)
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Climb, take the gradient there, return, and step."""
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in weights]).norm()
        for weight in weights:
            self.state[weight]["old"] = weight.data.clone()
            weight.add_(weight.grad * (0.05 / norm))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for weight in weights:
            weight.data = self.state[weight]["old"]
        self.base.step()
        self.zero_grad()


@loop
def sam(model: nn.Sequential, hold: Any) -> nn.Module:
    """Sharpness-aware minimization with a closure."""
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)

    def step(batch: tuple[Tensor, Tensor]) -> None:
        loss_of(model, batch).backward()
        optimizer.step(lambda: loss_of(model, batch).backward())

    step(batches()[0])
    with hold(optimizer):
        for batch in batches():
            step(batch)
    return model


@loop
def stochastic_weight_averaging(model: nn.Sequential, hold: Any) -> nn.Module:
    """`swa_utils`: an average, its schedule, and BatchNorm updated at the end."""
    optimizer = momentum(model)
    with hold(optimizer):
        average, schedule = AveragedModel(model), SWALR(optimizer, swa_lr=0.05)
        for batch in batches(3):
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)
            schedule.step()
        update_bn(batches(), average)
    return average.module


@loop
def exponential_average(model: nn.Sequential, hold: Any) -> nn.Module:
    """`swa_utils`: an exponential moving average with its buffers."""
    optimizer = momentum(model)
    with hold(optimizer):
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        for batch in batches(3):
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)
    return average.module


@loop
def average_of_ema_pytorch(model: nn.Sequential, hold: Any) -> nn.Module:
    """`ema_pytorch`."""
    from ema_pytorch import EMA

    optimizer = momentum(model)
    with hold(optimizer):
        average = EMA(model, beta=0.9, update_after_step=0, update_every=1)
        for batch in batches(3):
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update()
    return cast(nn.Module, average.ema_model)


@loop
def average_of_timm(model: nn.Sequential, hold: Any) -> nn.Module:
    """`timm`: the average of its training script."""
    from timm.utils.model_ema import ModelEmaV3

    optimizer = momentum(model)
    with hold(optimizer):
        average = ModelEmaV3(model, decay=0.9)
        for batch in batches(3):
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
    return cast(nn.Module, average.module)


@loop
def accelerated(model: nn.Sequential, hold: Any) -> nn.Module:
    """`accelerate`: a prepared network, optimizer and loader, accumulation, mixed precision and clipping."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision="bf16")
    loader: Any = torch.utils.data.DataLoader(cast(Any, batches(4)), batch_size=None)
    wrapped, optimizer, loader = accelerator.prepare(model, momentum(model), loader)
    with hold(optimizer):
        for batch in loader:
            with accelerator.accumulate(wrapped):
                accelerator.backward(loss_of(wrapped, batch))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    return cast(nn.Module, accelerator.unwrap_model(wrapped))


@loop
def distributed(model: nn.Sequential, hold: Any) -> nn.Module:
    """DistributedDataParallel in one process, compiled, with gradients that are views of buckets."""
    with process_group(0, 1, Path(tempfile.mkdtemp()) / "store"):
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        optimizer = momentum(wrapped)
        compiled: Any = torch.compile(wrapped, backend="aot_eager")
        with hold(optimizer):
            for batch in batches():
                loss_of(compiled, batch).backward()
                optimizer.step()
                optimizer.zero_grad()
    return model


@contextmanager
def process_group(rank: int, processes: int, store: Path) -> Iterator[None]:
    """The default group of processes, over gloo."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def one_of_two(rank: int, folder: str) -> None:
    """Train in one of two processes, on other data, and save the network."""
    torch.set_num_threads(1)
    with process_group(rank, 2, Path(folder) / "store"):
        model = network()
        masks = checkered(model)
        wrapped = nn.parallel.DistributedDataParallel(model, static_graph=True)
        inside: Any = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
        optimizer = torch.distributed.optim.ZeroRedundancyOptimizer(wrapped.parameters(), inside)
        for step, batch in enumerate(batches(8)[rank::2]):
            if step == 2:
                masks.hold(optimizer, model=wrapped)
            loss_of(wrapped, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.save(model.state_dict(), Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """Under DistributedDataParallel with a sharded optimizer, all processes hold the same zeros."""
    spawn(one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    model = network()
    masks = checkered(model)
    model.load_state_dict(first)

    assert_zeros(model, masks)
    assert all(torch.equal(first[name], second[name]) for name in masks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shard",
    [
        torch.distributed.fsdp.fully_shard,
        lambda model: torch.distributed.fsdp.FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            sharding_strategy=torch.distributed.fsdp.ShardingStrategy.NO_SHARD,
        ),
    ],
)
def test_sharded_weights_are_refused(shard: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    """FSDP shards weights: masks refuse them before any change, and name the parameter or module."""
    model = network()
    masks = checkered(model)
    with process_group(0, 1, tmp_path / "store"):
        wrapped = shard(model)
        with pytest.raises(UsageError, match="is sharded over processes, and masks hold whole weights"):
            masks.apply(wrapped)


@loop
def schedule_free(model: nn.Sequential, hold: Any) -> nn.Module:
    """`schedulefree`: its `eval` exchanges the weights for an average, outside any step."""
    import schedulefree

    optimizer = schedulefree.SGDScheduleFree(model.parameters(), lr=0.1, weight_decay=0.1)
    optimizer.train()
    for batch in batches():  # what it remembers of the dense network
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    with hold(optimizer):
        for batch in batches():
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        optimizer.eval()
    return model


@loop
def optimizer_in_the_backward_pass(model: nn.Sequential, hold: Any) -> nn.Module:
    """An optimizer for each weight, which steps as soon as its gradient arrives."""
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}

    def step(weight: Tensor) -> None:
        optimizers[weight].step()  # type: ignore[index]
        weight.grad = None

    for weight in optimizers:
        weight.register_post_accumulate_grad_hook(step)
    loss_of(model, batches()[0]).backward()
    with hold(*optimizers.values()):
        for batch in batches():
            loss_of(model, batch).backward()
    return model


@loop
def replaced_parameters(model: nn.Sequential, hold: Any) -> nn.Module:
    """Weights replaced during the hold, and an optimizer made for the new ones."""
    optimizer = momentum(model)
    layer = model[5]
    assert isinstance(layer, nn.Linear)
    with hold(optimizer):
        layer.weight = nn.Parameter(torch.ones(3, 64))
        model.load_state_dict({**model.state_dict(), "0.weight": torch.ones(4, 2, 3, 3)}, assign=True)
        newer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
        loss_of(model, batches()[0]).backward()
        newer.step()
    return model


@loop
def fused(model: nn.Sequential, hold: Any) -> nn.Module:
    """A fused optimizer, clipped by value before its step."""
    optimizer = momentum(model, fused=True)
    with hold(optimizer):
        for batch in batches():
            loss_of(model, batch).backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return model


def assert_zeros(model: nn.Module, masks: Masks) -> None:
    """Pruned weights are zero, others are not, and so they are in a saved state that a dense network loads."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = network(seed=5)
    loaded.load_state_dict(torch.load(file))
    for one in (model, loaded):
        assert 0 == masked(one, masks).count_nonzero()
        assert trained(one, masks)


LONG = {"mixed_precision", "compiled_module", "compiled_step", "average_of_timm", "accelerated", "distributed"}
CASES = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in LOOPS]


@pytest.mark.parametrize("name", CASES)
def test_pruned_weights_stay_zero(name: str) -> None:
    """After the loop, and after saving and loading, pruned weights are zero."""
    model = network()
    masks = checkered(model)

    assert_zeros(LOOPS[name](model, masks.hold), masks)


@pytest.mark.parametrize("name", CASES)
def test_without_a_hold_the_loop_moves_pruned_weights(name: str) -> None:
    """The loops are not harmless: weights that are zeroed once come back."""
    model = network()
    masks = checkered(model)

    def once(*_: object) -> AbstractContextManager[object]:
        masks.apply(model)
        return nullcontext()

    assert masked(LOOPS[name](model, once), masks).count_nonzero() > 0
