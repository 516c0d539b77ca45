"""Trace of the neural tangent kernel: the part of it that depends on each weight."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from autosparse.core.criteria._base import Parts, criteria
from autosparse.core.evidence import Evidence, Mode, floats_of
from autosparse.core.inputs import Inputs, in_parts, map_tensors
from autosparse.core.torch_compat.function_overrides import recording
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


# Each sample: two gradients, and a forward pass for the statistics and for each output.
@criteria.register(gradients=lambda options: 3 * options["samples"], states=3, source="Wang, Li & Sun 2023")
def ntk_sap(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of random inputs in each sample, shaped as training images"] = 100,
    samples: Annotated[int, Ge(1), "number of draws of initial weights, inputs and perturbations"] = 5,
    epsilon: Annotated[float, Gt(0), "standard deviation of the perturbation of a weight"] = 0.01,
    weights: Annotated[
        Literal["fresh", "given"], "initial weights of each sample: fresh (Kaiming normal) or given (the network's)"
    ] = "fresh",
) -> Tensors:
    """Score by the effect of a weight on the trace of the neural tangent kernel, averaged over initial weights.

    The trace is estimated by the squared change of the outputs under a random perturbation of the weights, on normal
    inputs. BatchNorm has the statistics of these inputs. The network's images give only the shape. Fresh weights
    replace prunable ones; the authors reset all of BatchNorm too. Integer inputs stay as drawn.

    Args:
        evidence: Network under its present masks; its generator draws weights, inputs and perturbations.
        images: Number of random inputs in each sample.
        samples: Number of samples over which the gradient is summed.
        epsilon: Standard deviation of the perturbation.
        weights: `fresh`, normal weights of variance 2 / fan-in in each sample, or `given`, those of the network.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        >>> from autosparse import score
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> scores = score(model, [(torch.rand(8, 4), torch.arange(8) % 2)], criterion="ntk_sap")
        >>> {name: tuple(values.shape) for name, values in scores.items()}
        {'0.weight': (8, 4), '2.weight': (2, 8)}

    References:
        Wang, Li & Sun 2023, arXiv 2304.02840. The preset `ntk_sap` repeats it in 20 rounds.
    """
    total = {name: torch.zeros_like(weight) for name, weight in evidence.weights.items()}
    for inputs in samples * [inputs for inputs, _ in evidence.draw(images)]:
        start = _fresh(evidence) if weights == "fresh" else evidence.initial
        noise = _normal_like(inputs, evidence.generator)
        moved = {name: weight + epsilon * _normal(weight, evidence.generator) for name, weight in start.items()}
        both = [{name: tensors[name] * mask for name, mask in evidence.masks.items()} for tensors in (start, moved)]
        measured = replace(evidence, weights=both[0], objective=_squared_distance).with_statistics([noise])
        for unmasked, here, there in ((start, *both), (moved, *both[::-1])):
            outputs = measured.outputs(there, noise)
            for name, part in measured.gradient(here, [(noise, outputs)], mode="evaluation").items():
                total[name] += unmasked[name] * part
    return {name: part.abs() for name, part in total.items()}


# Two forward passes for each image, and a pass of ones.
@criteria.register(gradients=2 / 3, flows=1, source="Iurada, Ciccone & Tommasi 2024")
def px(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of training images that select the active paths"] = 256,
    mode: Annotated[
        Mode,
        "mode of the forward pass that activates paths: evaluation (as in the paper: running statistics, 0 and 1 at "
        "initialization) or training (BatchNorm on batch statistics)",
    ] = "evaluation",
    parts: Parts = 1,
) -> Tensors:
    """Score by the part of a weight in an upper bound on the trace of the neural tangent kernel (path exclusion).

    The bound is a sum over paths of the squared weights on the path times the squared inputs that activate it. Two
    linear positive networks compute it, in float64. BatchNorm is neutral in both, biases are no paths and pools
    average: the published code normalizes both networks by batch statistics, and leaves layers called `fc`.

    Args:
        evidence: Network under its present masks, with the batches that `images` draws from.
        images: Number of training images that select the active paths.
        mode: Mode of the forward pass that activates paths: `evaluation`, or `training` (BatchNorm on batch statistics,
            dropout on).
        parts: Number of microbatches; memory is that of one of them.

    Returns:
        Scores, name -> float64 tensor of the weight's shape and device; higher is kept.

    Raises:
        UsageError: If the calls of activations depend on the values of the inputs.

    Examples:
        One path for each weight: its square times that of the input.

        >>> import torch
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> score(model, [(torch.tensor([[1.0, 3.0]]), torch.zeros(1))], criterion="px")
        {'weight': tensor([[10., 40.]], dtype=torch.float64)}

    References:
        Iurada, Ciccone & Tommasi 2024, arXiv 2406.01820 (PX). The preset `px` repeats it in 100 rounds.
    """
    batches = [inputs for inputs, _ in in_parts(evidence.draw(images), parts)]
    squared = {name: weight.detach().double().square() for name, weight in evidence.weights.items()}
    layers = evidence.layers_by_name
    for scaled in (False, True):
        present = {
            name: mask.double() / (layers[name].fan_in if scaled else 1) for name, mask in evidence.masks.items()
        }
        active: list[torch.Tensor] = []
        for inputs in batches:
            signs: list[torch.Tensor] = []
            with recording(signs):
                evidence.outputs(evidence.weights, inputs, mode=mode)
            outputs = evidence.path_outputs(present, inputs, signs)
            sums = [part.sum(dim=0, keepdim=True) for part in outputs]
            active = [one + other for one, other in zip(active, sums, strict=True)] if active else sums
        leaves = {name: weight.clone().requires_grad_() for name, weight in squared.items()}
        _, gradient = evidence.flow_gradient(leaves, paths_only=True, shares=active)
        if all(bool(part.isfinite().all()) for part in gradient.values()):
            break  # else the number of paths exceeds float64
    return {name: weight.double().square() * gradient[name] for name, weight in evidence.initial.items()}


def _fresh(evidence: Evidence) -> Tensors:
    layers = evidence.layers_by_name
    return {
        name: _normal(weight, evidence.generator) * math.sqrt(2 / layers[name].fan_in)
        for name, weight in evidence.weights.items()
    }


def _normal(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # Drawn on the CPU, so that a seed means the same masks on every device.
    return torch.randn(tensor.shape, generator=generator, device="cpu").to(tensor)


def _normal_like(inputs: Inputs, generator: torch.Generator) -> Inputs:
    noise: Inputs = map_tensors(
        lambda tensor: _normal(tensor, generator) if tensor.is_floating_point() else tensor, inputs
    )
    return noise


def _squared_distance(outputs: Any, others: Any) -> torch.Tensor:
    pairs = zip(floats_of(outputs), floats_of(others), strict=True)
    return torch.stack([(one - other).square().sum() for one, other in pairs]).sum()
