"""A multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, MinLen

from autosparse.lazy_torch import torch
from autosparse.models import models


@models.register
def mlp(
    shape: tuple[int, int, int],
    classes: int,
    *,
    widths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), "units of each hidden layer"] = (300, 100),
) -> torch.nn.Module:
    """Fully connected network (LeNet-300-100 by default)."""
    sizes = [math.prod(shape), *widths]
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], classes))
