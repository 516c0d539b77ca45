"""An autocast of the caller does not reach a training inside."""

from __future__ import annotations

import pytest
import torch

from autosparse import prune
from autosparse.core.torch_compat.autocast_state import autocast_suspended


def trained() -> torch.Tensor:
    """Return the weight of a layer after three steps, each under its autocast."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    inputs = torch.randn(8, 4)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = layer(inputs).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer.weight.detach()


@pytest.mark.parametrize("enabled", [True, False])
def test_steps_inside_an_autocast_use_fresh_weights(enabled: bool) -> None:
    """The casts of one step are not kept for the next; without the suspension they are."""
    expected = trained()
    with torch.autocast("cpu", enabled=enabled):
        stale = trained()
        with autocast_suspended():
            fresh = trained()

        assert torch.is_autocast_enabled("cpu") == enabled
    assert not torch.equal(expected, stale)
    assert torch.equal(expected, fresh)
    assert torch.equal(expected, trained())


class Casting(torch.nn.Sequential):
    """A network with an autocast in its forward pass."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs in float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs: torch.Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
        return outputs.float()


def test_a_mask_search_trains_networks_that_cast() -> None:
    """The masks are the same inside an autocast of the caller."""
    torch.manual_seed(0)
    model = Casting(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    batches = [(torch.randn(16, 8), torch.arange(16) % 4)]
    method = {"preset": "mask_search", "allocation": "igq", "horizon": 10}
    plain = prune(model, batches, 0.5, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = prune(model, batches, 0.5, method=method)

    assert plain == inside
