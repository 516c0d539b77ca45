"""Rates of a network, trained by every kind of kernels."""

from __future__ import annotations

import torch

from autosparse.backends import Placement
from autosparse.measure import probe
from autosparse.models.facts import Network

CPU = Placement("cpu", 1)


def test_a_network_has_a_rate_for_every_unit() -> None:
    """All are above zero; the global generators stay as they were."""
    options = {"width": 8}
    network = Network({"name": "resnet8", "options": options}, "resnet8", options, (3, 16, 16), 10)
    state = torch.random.get_rng_state()
    rates = probe.probe_network(network, 32, "float32", "sparse", CPU)

    units = ("build", "train", "sparse", "forward", "gradient", "flow", "features")
    assert {*units} <= rates.keys()
    assert all(rates[unit] > 0 for unit in units)
    assert torch.equal(state, torch.random.get_rng_state())  # a run after a plan draws the same numbers
