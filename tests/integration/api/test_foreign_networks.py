"""Conformance: networks that were not made for autosparse are scored by every criterion and pruned by every preset."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.vision_transformer import VisionTransformer

import autosparse
from autosparse.core.criteria import criteria
from autosparse.core.weights import prunable_weights, unprunable
from tests.unit.api.conftest import METHODS, assert_scored, in_brief

CLASSES = 5
CRITERIA = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds", "needs_order"} & set(entry.facts)]


class TiedNetwork(nn.Module):
    """An encoder whose weight the decoder and an idle layer share, and a head that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(48, 40)
        self.inner = nn.Linear(40, 40)
        self.again = nn.Linear(40, 40)
        self.again.weight = self.inner.weight
        self.idle = nn.Linear(48, 40)
        self.idle.weight = self.encoder.weight
        self.head = nn.Linear(40, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.inner(torch.relu(self.encoder(x.flatten(1)))))
        output: Tensor = self.head(x) + self.head(torch.relu(self.again(x)))
        return output


def convnext() -> nn.Module:
    """ConvNeXt of four stages, narrow, with as few blocks as show each kind of connection."""
    widths = [16, 32, 48, 64]
    sizes = zip(widths, [*widths[1:], None], [1, 1, 2, 1], strict=True)
    model: nn.Module = ConvNeXt([CNBlockConfig(*size) for size in sizes], num_classes=CLASSES)
    return model


def vit() -> nn.Module:
    """A small ViT with a random head: torchvision's begins at zero, and then no gradient reaches the body."""
    model: nn.Module = VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=CLASSES)
    nn.init.trunc_normal_(model.get_parameter("heads.head.weight"), std=0.1)
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mobilenet_v3_small": (lambda: mobilenet_v3_small(num_classes=CLASSES, width_mult=0.5), (3, 32, 32)),
    "densenet": (
        lambda: DenseNet(8, (2, 3, 3, 2), num_init_features=16, bn_size=2, num_classes=CLASSES),
        (3, 32, 32),
    ),
    "convnext": (convnext, (3, 32, 32)),
    "vit_tiny": (vit, (3, 32, 32)),
    "linear_only": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(48, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 5)
        ),
        (3, 4, 4),
    ),
    "tied": (TiedNetwork, (3, 4, 4)),
}


def built(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A network at a seed, and two small batches for it."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    return build(), [(torch.randn(4, *shape), torch.randint(0, CLASSES, (4,))) for _ in range(2)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_prunable_or_has_a_reason(name: str) -> None:
    """Prunable and not prunable are, together, all names of all parameters, none twice."""
    model, _ = built(name)
    prunable, others = prunable_weights(model), unprunable(model)

    assert {key for key, _ in model.named_parameters(remove_duplicate=False)} == prunable.keys() | others.keys()
    assert not prunable.keys() & others.keys()
    assert all(weight.ndim > 1 for weight in prunable.values())


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_criterion_scores(name: str, criterion: str) -> None:
    """Every prunable weight has a finite score of its shape, in model order, and they are not all the same."""
    assert_scored(*built(name), criterion)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=pytest.mark.slow if (name, method) == ("mobilenet_v3_small", "npb") else ())
        for name in NETWORKS
        for method in METHODS
    ],
)
def test_every_preset_prunes_and_masks_hold(name: str, method: str) -> None:
    """At 0.9 and 0.99 the count is exact, and a training step under a hold leaves every masked weight zero."""
    large = name in ("mobilenet_v3_small", "densenet", "convnext")  # one sparsity has to do
    for sparsity in (0.9, 0.99)[large:]:
        model, batches = built(name)
        total = sum(weight.numel() for weight in prunable_weights(model).values())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
        masks = autosparse.prune(model, batches, sparsity=sparsity, method=in_brief(method))

        assert round((1 - sparsity) * total) == masks.kept
        with masks.hold(optimizer):
            nn.functional.cross_entropy(model(batches[0][0]), batches[0][1]).backward()
            optimizer.step()
            for key, weight in prunable_weights(model).items():
                assert 0 == weight.detach()[~masks[key]].count_nonzero()
