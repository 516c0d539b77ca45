"""Random walks along weights: the order in which walks from inputs to outputs, and back, visit them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autosparse.core.evidence import Evidence, floats_of
from autosparse.core.inputs import map_tensors
from autosparse.core.torch_compat.function_overrides import proportional
from autosparse.core.torch_compat.functional_call import with_state
from autosparse.core.weights import Tensors
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch

_AT_ONCE = 64  # walks in one pass
_IDLE = 50  # passes without a new weight, after which walks end


def order_of_visits(evidence: Evidence, scores: Mapping[str, torch.Tensor], count: int) -> Tensors:
    """Return scores in the order in which walks visit weights until `count` are visited, the first the highest.

    A step goes from a unit along one of its weights, with a probability in proportion to the score. Walks begin at
    inputs and at outputs, unit by unit in turn. Weights that no walk visits come last, by their scores. Raises
    UsageError for a network with prunable weights that no walk visits, such as those of attention.
    """
    walks = _Walks(evidence, scores)
    seen = {name: torch.full((values.numel(),), math.inf, dtype=torch.float64) for name, values in scores.items()}
    number, idle, visited = 0, 0, 0
    while visited < count and idle < _IDLE:
        for backward in (False, True):
            for name, index, times in walks.run(backward, number):
                seen[name].scatter_reduce_(0, index, 2 * (number + times.floor()) + backward + times.frac(), "amin")
        number += _AT_ONCE
        now = sum(int(first.isfinite().sum()) for first in seen.values())
        idle, visited = (0 if now > visited else idle + 1), now
    if silent := [name for name, first in seen.items() if not bool(first.isfinite().any())]:
        raise UsageError(
            f"no walk visits layer {silent[0]}", "choose a schedule that follows no walks, such as `one_shot`"
        )
    if visited < count:
        evidence.note(f"walks visited {visited} of {count} weights to keep; the others have the highest scores")
    highest = max(float(values.max()) for values in scores.values()) or 1.0
    return {
        name: torch.where(first.isfinite(), 2 - first / (2 * number + 1), scores[name].flatten().cpu() / (2 * highest))
        .view(scores[name].shape)
        .to(scores[name].device)
        for name, first in seen.items()
    }


class _Walks:
    """Passes of many walks at once: every layer moves each walk along one weight."""

    def __init__(self, evidence: Evidence, scores: Mapping[str, torch.Tensor]) -> None:
        self._evidence = evidence
        spread = {name: layer.spread for name, layer in evidence.layers_by_name.items()}
        self._chances = {name: spread[name](part.detach().double().cpu()) for name, part in scores.items()}
        places = {name: torch.arange(part.numel()).view(part.shape) for name, part in scores.items()}
        self._places = {name: spread[name](part) for name, part in places.items()}
        self._weights = {name: torch.ones(part.shape, dtype=torch.float64) for name, part in scores.items()}
        self._steps: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def run(self, backward: bool, first: int) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
        """Return the visits of walks from the units `first` and following ones: layer, weights and times."""
        self._steps = []
        ends = self._followed(backward, first)
        gates = [gate for _, _, gate in self._steps]
        passed = torch.autograd.grad(ends.sum(), gates, allow_unused=True, materialize_grads=True) if gates else ()
        times = torch.arange(_AT_ONCE, dtype=torch.float64)
        visits = []
        for number, ((name, index, _), part) in enumerate(zip(self._steps, passed, strict=True)):
            alive = part > 0
            visits.append((name, index[alive], times[alive] + number / (len(gates) + 1)))
        return visits

    def _followed(self, backward: bool, first: int) -> torch.Tensor:
        walks = torch.arange(_AT_ONCE)
        source: list[torch.Tensor] = []

        def begin(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_floating_point():
                raise UsageError("walks cannot begin at integer inputs", "choose another schedule, such as `one_shot`")
            inputs = torch.ones((_AT_ONCE, *tensor.shape[1:]), dtype=torch.float64)
            if not backward:
                here = torch.zeros_like(inputs)
                here[walks, (first + walks) % inputs.shape[1]] = 1.0
                inputs = here
            source.append(inputs.requires_grad_())
            return inputs

        inputs = map_tensors(begin, self._evidence.example())
        rest = {
            name: part.cpu() if not part.is_floating_point()
            else torch.full(part.shape, float(not name.endswith(("bias", "running_mean"))), dtype=torch.float64)
            for name, part in self._evidence.state().items() if name not in self._weights
        }  # fmt: skip
        with proportional(real=[*self._weights.values()]), _moving(self, backward):
            outputs = with_state(
                self._evidence.model, {**rest, **self._weights}, lambda call: floats_of(call(inputs)),
                training=False, recompute=False,
            )  # fmt: skip
        if not backward:
            return torch.stack([part.sum() for part in outputs])
        ends = torch.zeros_like(outputs[0])
        ends[walks, (first + walks) % ends.shape[1]] = 1.0
        return torch.autograd.grad(outputs[0], source[0], ends, create_graph=True)[0]

    def named(self, weight: Any) -> str | None:
        """Return the layer of a weight by identity."""
        return next((name for name, one in self._weights.items() if one is weight), None)

    def move(self, name: str, values: torch.Tensor, shape: torch.Size, dim: int, backward: bool) -> torch.Tensor:
        """Return a tensor of `shape` where each walk is at another unit, along one weight from a unit with a value."""
        chances = self._chances[name]
        _, outputs, inputs, kernel = chances.shape
        by_unit = values.movedim(dim, 1).reshape(len(values), values.shape[dim], -1)
        mass = by_unit.detach().sum(dim=2)
        unit = self._drawn(mass)
        group, inside = unit // (outputs if backward else inputs), unit % (outputs if backward else inputs)
        table = chances[group, inside] if backward else chances[group, :, inside]
        step = self._drawn(table.flatten(1))
        other, cell = step // kernel, step % kernel
        places = self._places[name]
        index = places[group, inside, other, cell] if backward else places[group, other, inside, cell]
        gate = torch.ones(len(unit), dtype=torch.float64, requires_grad=True)
        self._steps.append((name, index, gate))
        walks = torch.arange(len(unit))
        held = by_unit[walks, unit].sum(dim=1)
        value = gate * held / held.detach().clamp_min(1e-300)
        made = torch.zeros(shape, dtype=torch.float64).movedim(dim, 1)
        target = group * (inputs if backward else outputs) + other
        here = torch.nn.functional.one_hot(target, made.shape[1]).double() * value[:, None]
        return here.view(*here.shape, *[1] * (made.ndim - 2)).expand(made.shape).movedim(1, dim)

    def _drawn(self, mass: torch.Tensor) -> torch.Tensor:
        dead = mass.sum(dim=1, keepdim=True) <= 0
        return torch.multinomial(mass + dead, 1, generator=self._evidence.generator).flatten()


def _moving(walks: _Walks, backward: bool) -> Any:
    class Back(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor, name: str, shape: torch.Size, dim: int) -> torch.Tensor:
            ctx.about = name, values.shape, dim
            return torch.ones(shape, dtype=torch.float64)

        @staticmethod
        def backward(ctx: Any, slope: torch.Tensor) -> Any:
            name, shape, dim = ctx.about
            return walks.move(name, slope, shape, dim, True), None, None, None

    class Moving(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            kind = getattr(function, "__name__", "")
            name = walks.named(args[1] if len(args) > 1 else kwargs.get("weight")) if kind in _LAYERS else None
            if name is None:
                return function(*args, **kwargs)
            values = args[0] if args else kwargs["input"]
            with torch.no_grad():
                shape = function(*args, **kwargs).shape
            dim = values.ndim - 1 if kind == "linear" else 1
            return Back.apply(values, name, shape, dim) if backward else walks.move(name, values, shape, dim, False)

    return Moving()


_LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
