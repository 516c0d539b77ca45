"""Steps of a module of Lightning, for either of its packages."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from tests.unit.api.conftest import checkered, masked, network


class Steps:
    """Training of `net`; validation requires its zeros where a fit is validated."""

    net: nn.Sequential
    log: Any

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """Check the zeros, before any training too."""
        assert 0 == masked(self.net, checkered(self.net)).count_nonzero()
        self.log("loss", self.training_step(batch, index), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer that moves pruned weights where nothing holds them."""
        return torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
