"""Sparse layers for inference: computed from the remaining weights alone where that is faster on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from autosparse.core.inputs import Inputs, call, examples_in
from autosparse.lazy_torch import torch

if TYPE_CHECKING:
    from autosparse.core.sparse.row_products import RowProducts

DENSE, SPARSE = "dense", "sparse"
_GAIN = 0.9  # of the dense time: smaller gains are measurement noise
_REPEATS, _MOMENT = 7, 0.3  # runs per way, and their limit in seconds
_processor_time = time.thread_time if os.name == "posix" else time.perf_counter  # elsewhere its grain is too coarse


def choose_ways(network: torch.nn.Module, batches: Sequence[Inputs]) -> dict[str, dict[str, str]]:
    """Measure the faster way for each layer of a network in evaluation mode, on this machine with torch's threads.

    `batches` are inputs, each of another batch size. Layers that are dense throughout are left out.
    """
    inputs: dict[str, dict[str, torch.Tensor]] = {name: {} for name, module in network.named_modules() if _can(module)}
    for batch in batches:
        for name, seen in _inputs(network, batch, inputs).items():
            inputs[name][str(examples_in(batch))] = seen
    modules = dict(network.named_modules())
    choices: dict[str, dict[str, str]] = {}
    for name, by_count in inputs.items():
        dense, sparse = modules[name], _sparse(modules[name], dict.fromkeys(by_count, SPARSE))
        ways = {count: _faster(dense, sparse, given) for count, given in by_count.items()}
        if SPARSE in ways.values():
            choices[name] = ways
    return choices


def apply_ways(network: torch.nn.Module, choices: Mapping[str, Mapping[str, str]]) -> torch.nn.Module:
    """Replace layers of `network` in place, by layer -> batch size -> `dense` or `sparse`, and return it.

    Raises ValueError for layers that are missing or cannot be sparse.
    """
    for name, ways in choices.items():
        parent, _, child = name.rpartition(".")
        try:
            holder = network.get_submodule(parent)
            module = holder.get_submodule(child)
        except AttributeError as error:
            raise ValueError(f"there is no layer {name}") from error
        if not name or not _can(module):
            raise ValueError(f"layer {name} cannot be computed otherwise")
        setattr(holder, child, _sparse(module, ways))
    return network


def _can(module: torch.nn.Module) -> bool:
    if type(module) is torch.nn.Linear:
        return True
    # Subclasses may compute differently.
    return (
        type(module) is torch.nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _inputs(network: torch.nn.Module, batch: Inputs, names: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name in names:
            module = network.get_submodule(name)
            hooks.enter_context(
                module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].detach()}))
            )
        call(network, batch)
    return seen


def _faster(dense: Callable[..., Any], sparse: Callable[..., Any], batch: torch.Tensor) -> str:
    # Alternating runs in processor time: other processes on this machine change no choice.
    times: list[list[float]] = [[], []]
    begin = time.perf_counter()
    with torch.no_grad():
        while len(times[1]) <= _REPEATS and (len(times[1]) < 3 or time.perf_counter() - begin < _MOMENT):
            for index, way in enumerate((dense, sparse)):
                start = _processor_time()
                way(batch)
                times[index].append(_processor_time() - start)
    dense_time, sparse_time = (min(durations[1:]) for durations in times)
    return SPARSE if sparse_time < _GAIN * dense_time else DENSE


def _sparse(module: torch.nn.Module, ways: Mapping[str, str]) -> RowProducts:
    # Defining a module needs torch, which is imported on first use.
    from autosparse.core.sparse.row_products import RowProducts

    return RowProducts(module, {int(count) for count, way in ways.items() if way == SPARSE}, set(map(int, ways)))
