"""GraSP: gradient signal preservation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence, gradient_of
from autosparse.core.inputs import examples_in
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


@criteria.register(gradients=3.5)
def grasp(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images; the authors take ten a class"] = 100,
    temperature: Annotated[float, Gt(0), "divides the logits"] = 200.0,
) -> Tensors:
    """w (H g): keep what the gradient's norm needs (Wang, Zhang & Grosse 2020, eq. 8, negated: higher is kept)."""
    batches = evidence.draw(images)
    target = evidence.gradient(evidence.weights, batches, temperature)
    leaves = {name: weight.detach().requires_grad_() for name, weight in evidence.weights.items()}
    product = {name: torch.zeros_like(weight) for name, weight in leaves.items()}
    count = sum(examples_in(inputs) for inputs, _ in batches)
    for batch in batches:
        loss = evidence.loss(leaves, batch, temperature, twice=True) * (examples_in(batch[0]) / count)
        gradient = gradient_of(loss, leaves, differentiable=True)
        inner = torch.stack([(part * target[name]).sum() for name, part in gradient.items()]).sum()
        for name, part in gradient_of(inner, leaves).items():
            product[name] += part
    return {name: leaves[name].detach() * product[name] for name in leaves}
