"""Conformance of architectures: a smaller network computes and learns as the masked one."""

from __future__ import annotations

import pytest
import torch

from autosparse.core.graph.slicing import sliced, slicing_of
from autosparse.core.graph.trial import find_groups, scrambled, without
from autosparse.core.weights import prunable_weights

models = pytest.importorskip("torchvision.models")

SIDE = 64
NAMES = ("resnet18", "densenet121", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5", "convnext_tiny")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_smaller_network_is_the_masked_one(name: str) -> None:
    """Equal outputs in evaluation mode, equal gradients of a batch in training mode; whole layers have reasons."""
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, num_classes=10).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    images = torch.randn(4, 3, SIDE, SIDE)
    coupling = find_groups(network, images[:1])
    generator = torch.Generator().manual_seed(0)
    some = {group.name: torch.rand(group.channels, generator=generator) < 0.6 for group in coupling.groups}
    for flags in some.values():
        flags[0] = True
    random = scrambled(network)
    slicing = slicing_of(random, coupling.groups, some)
    masked, smaller = without(random, coupling.groups, some), sliced(random, slicing)

    with torch.no_grad():
        expected = masked(images)
        assert (smaller(images) - expected).abs().max() <= 1e-4 * expected.abs().max()
    for one in (masked.double().train(), smaller.double().train()):
        torch.nn.functional.cross_entropy(one(images.double()), torch.arange(4)).backward()
    gradients = {key: value.grad for key, value in masked.named_parameters() if value.grad is not None}
    for key, gradient in slicing.take(gradients).items():
        actual = smaller.get_parameter(key).grad
        assert actual is not None
        assert (actual - gradient).abs().max() <= 1e-4 * gradient.abs().max().clamp_min(1e-3), key

    sliced_names = {part.tensor for group in coupling.groups for part in group.slices}
    assert prunable_weights(network).keys() == {*coupling.whole} | (sliced_names & {*prunable_weights(network)})
    assert all(why and "\n" not in why for why in coupling.whole.values())
