"""Rates of a network, trained by every kind of kernels."""

from __future__ import annotations

import pytest
import torch

from autosparse.backends import Placement
from autosparse.measure.network_probe import probe_network
from autosparse.models.facts import Network

CPU = Placement("cpu", 1)


@pytest.mark.slow
def test_a_network_has_a_rate_for_every_unit() -> None:
    """All are above zero; the global generators stay as they were."""
    options = {"width": 8}
    network = Network({"name": "resnet8", "options": options}, "resnet8", options, (3, 16, 16), 10)
    state = torch.random.get_rng_state()
    made = probe_network(network, 32, "float32", "sparse", CPU, limit=60.0)
    rates = made.rates

    units = ("build", "train", "sparse", "forward", "gradient", "flow", "features")
    assert {*units} <= rates.keys()
    assert all(rates[unit] > 0 for unit in units)
    assert {"build", "train", "sparse"}.isdisjoint(made.derived)
    assert made.slowdown >= 1
    assert torch.equal(state, torch.random.get_rng_state())  # a run after a plan draws the same numbers
