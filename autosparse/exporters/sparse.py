"""Kept weights, with sparse kernels for the layers where they are faster on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autosparse.core.graph.shrink import fuse, like_fused, resize
from autosparse.core.inputs import map_tensors, noise_like, resized
from autosparse.core.sparse.inference import DENSE, SPARSE, apply_ways, choose_ways
from autosparse.core.torch_compat.memory_layout import takes_channels_last
from autosparse.core.weights import state_of
from autosparse.exporters import compact
from autosparse.exporters._base import BATCHES, Model, Runtime, exporters
from autosparse.exporters.shrunk import SLICES, Shrink, slices_of, slicing_in, smaller, without_channels
from autosparse.lazy_torch import torch
from autosparse.store import canonical, dump_tensors

FILE, WAYS = "model.sparse.safetensors", "model.sparse.json"


def read(files: Mapping[str, bytes]) -> Model:
    """Return the tensors and choices that `sparse` wrote. Raises ValueError for bytes that are none."""
    model = compact.read({compact.FILE: files[FILE]})
    choices = json.loads(files[WAYS]) if WAYS in files else {}
    if not isinstance(choices, dict) or not all(map(_is_choice, choices.values())):
        raise ValueError(f"{WAYS} does not say how layers are computed")
    return replace(model, choices=choices, slicing=slicing_in(files))


def fit(model: Model, network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the pruned network with smaller layers and the chosen kernels, for inference."""
    network = like_fused(without_channels(network, model.slicing), model.state)
    return apply_ways(resize(network, model.state), model.choices)


def dense(model: Model) -> dict[str, bytes]:
    """Write a network as `sparse` does, with normalizations folded, and dense kernels for every layer."""
    network = fuse(smaller(model, shrink=False), model.example(2))
    return {FILE: dump_tensors(state_of(network)), WAYS: canonical({}).encode()}


@exporters.register(
    read=read,
    fit=fit,
    files=(FILE, WAYS),
    optional=(SLICES,),
    exact=False,
    runtime=Runtime("sparse kernels", dense),
    gain="dense kernels are faster here",
    builds=20,
)
def sparse(model: Model, *, shrink: Shrink = True) -> dict[str, bytes]:
    """`model.sparse.safetensors`, `model.sparse.json`: layers that skip zeros where that is faster, measured.

    For `autosparse.load` and inference: convolutions and linear layers are sparse matrix products, for one image or
    for many, or stay dense, whichever was faster on the emitting machine; normalizations are folded into the layers
    before them. As small as `compact`.
    """
    example = model.example(2)
    network = fuse(smaller(model, shrink=shrink), example)
    layout = torch.channels_last if takes_channels_last(network, example) else torch.contiguous_format
    network = network.to(memory_format=layout)
    batch = map_tensors(lambda tensor: _laid(tensor, layout), noise_like(model.example(max(BATCHES))))
    choices = choose_ways(network, [resized(batch, count) for count in BATCHES])
    state = {name: tensor.contiguous() for name, tensor in state_of(network).items()}
    masks = {name: tensor != 0 for name, tensor in state.items() if name in model.masks}
    (data,) = compact.compact(Model(state, masks)).values()
    return {FILE: data, WAYS: canonical(choices).encode(), **(slices_of(model) if shrink else {})}


def _laid(tensor: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return tensor.to(memory_format=layout) if tensor.ndim == 4 else tensor


def _is_choice(ways: Any) -> bool:
    return (
        isinstance(ways, dict)
        and bool(ways)
        and all(count.isdecimal() and 0 < int(count) < 10**6 for count in ways)
        and all(way in (DENSE, SPARSE) for way in ways.values())
    )
