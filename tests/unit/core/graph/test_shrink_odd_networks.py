"""Networks as people write them, pruned at random: without their dead channels, and fused, they give the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autosparse.core.graph.shrink import are_close, fuse, resize, shrink

Forward = Callable[[Any, torch.Tensor], torch.Tensor]
IMAGES = (3, 8, 8)


class Odd(nn.Module):
    """Layers by name and the code that uses them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.scale = nn.Parameter(torch.randn(6, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the network."""
        return self.run(self, images)


def image(forward: Forward, **layers: nn.Module) -> Odd:
    """A stem of six channels, a given middle part, and a classifier of six channels."""
    return Odd(
        lambda n, x: n.head(forward(n, n.stem(x)).mean((2, 3))),
        stem=nn.Conv2d(3, 6, 3, padding=1),
        head=nn.Linear(6, 3),
        **layers,
    )


def conv(inputs: int = 6, outputs: int = 6, **options: Any) -> nn.Conv2d:
    """A convolution of 3 x 3 pixels."""
    return nn.Conv2d(inputs, outputs, 3, **{"padding": 1, **options})


def chain(*layers: nn.Module) -> Odd:
    """Layers one after another."""
    return image(lambda n, x: n.body(x), body=nn.Sequential(*layers))


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """Channels as ShuffleNet exchanges them between groups."""
    count, channels, height, width = x.shape
    return x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(count, channels, height, width)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "concatenated, then summed": lambda: image(
        lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1)) + x, a=conv(), b=conv(), c=conv(12)
    ),
    "channel shuffle": lambda: image(lambda n, x: n.b(shuffled(n.a(x))), a=conv(groups=2), b=conv(groups=2)),
    "grouped": lambda: chain(conv(groups=3), nn.ReLU(), conv(groups=2)),
    "depthwise": lambda: chain(conv(groups=6), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 1)),
    "depthwise, two for each": lambda: chain(conv(6, 12, groups=6), nn.ReLU(), conv(12)),
    "in place": lambda: chain(conv(), nn.ReLU(inplace=True), conv(), nn.Hardswish(inplace=True)),
    "views of written sizes": lambda: Odd(
        lambda n, x: n.b(F.relu(n.a(x)).view(-1, 6 * 64)), a=conv(3), b=nn.Linear(384, 3)
    ),
    "flattened": lambda: Odd(lambda n, x: n.b(F.relu(n.a(x)).flatten(1)), a=conv(3), b=nn.Linear(384, 3)),
    "parameter that broadcasts": lambda: image(lambda n, x: n.a(x * n.scale) + n.scale, a=conv()),
    "pool with padding": lambda: chain(conv(), nn.MaxPool2d(3, 2, 1), conv(), nn.AvgPool2d(3, 2, 1), conv()),
    "pool without its padding": lambda: chain(conv(), nn.AvgPool2d(3, 2, 1, count_include_pad=False), conv()),
    "adaptive pools": lambda: chain(conv(), nn.AdaptiveMaxPool2d(4), conv(), nn.AdaptiveAvgPool2d((1, 1))),
    "times itself": lambda: image(lambda n, x: n.b(n.a(x) * n.a(x)), a=conv(), b=conv()),
    "subtracted": lambda: image(lambda n, x: n.b(1.5 - torch.sub(n.a(x), x, alpha=2)), a=conv(), b=conv()),
    "sum with a factor": lambda: image(lambda n, x: torch.add(n.a(x), x, alpha=0.5), a=conv()),
    "divided": lambda: image(lambda n, x: n.a(x) / 3 + x / n.scale, a=conv()),
    "BatchNorm of a vector": lambda: Odd(
        lambda n, x: n.c(F.relu(n.b(n.a(x.flatten(1))))), a=nn.Linear(192, 6), b=nn.BatchNorm1d(6), c=nn.Linear(6, 3)
    ),
    "one dimension": lambda: Odd(
        lambda n, x: n.b(n.n(F.relu(n.a(x.flatten(2)))).mean(2)),
        a=nn.Conv1d(3, 6, 3, padding=1),
        n=nn.BatchNorm1d(6),
        b=nn.Linear(6, 3),
    ),
    "three dimensions": lambda: Odd(
        lambda n, x: n.b(F.relu(n.n(n.a(x.unsqueeze(2)))).mean((2, 3, 4))),
        a=nn.Conv3d(3, 6, 3, padding=1),
        n=nn.BatchNorm3d(6),
        b=nn.Linear(6, 3),
    ),
    "transposed": lambda: chain(conv(), nn.ConvTranspose2d(6, 6, 2, 2), nn.BatchNorm2d(6), conv()),
    "upsampled": lambda: chain(conv(), nn.Upsample(scale_factor=2), conv()),
    "tokens": lambda: Odd(
        lambda n, x: n.c(n.b(n.n(n.a(x).flatten(2).transpose(1, 2))).mean(1)),
        a=conv(3, 8, stride=2),
        n=nn.LayerNorm(8),
        b=nn.Linear(8, 6),
        c=nn.Linear(6, 3),
    ),
    "channels last by hand": lambda: image(
        lambda n, x: n.b(F.gelu(n.a(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2), a=nn.Linear(6, 12), b=nn.Linear(12, 6)
    ),
    "chunks": lambda: image(
        lambda n, x: n.b(torch.mul(*n.a(x).chunk(2, 1))), a=conv(6, 12), b=conv()
    ),
    "split": lambda: image(lambda n, x: torch.cat(n.a(x).split([2, 4], 1)[::-1], 1), a=conv()),
    "sliced": lambda: image(lambda n, x: torch.cat([n.a(x)[:, :3], x[:, 3:]], 1), a=conv()),
    "used twice": lambda: image(lambda n, x: n.a(F.relu(n.a(x))), a=conv()),
    "PReLU of each": lambda: chain(conv(), nn.PReLU(6), conv(), nn.PReLU()),
    "GroupNorm": lambda: chain(conv(), nn.GroupNorm(2, 6), nn.SiLU(), conv()),
    "InstanceNorm": lambda: chain(conv(), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), conv()),
    "circular": lambda: chain(conv(), nn.ReLU(), conv(padding_mode="circular")),
    "reflected": lambda: chain(conv(), nn.ReLU(), conv(padding_mode="reflect")),
    "same": lambda: chain(conv(), nn.ReLU(), conv(padding="same")),
    "valid": lambda: chain(conv(), nn.ReLU(), conv(padding="valid")),
    "padded by hand": lambda: image(lambda n, x: n.a(F.pad(x, (1, 1, 1, 1), value=2.0)), a=conv(padding=0)),
    "dilated, strided": lambda: chain(conv(dilation=2), nn.ReLU(), conv(stride=2, bias=False)),
    "squeezed": lambda: Odd(
        lambda n, x: n.b(F.adaptive_avg_pool2d(n.a(x), 1).squeeze(3).squeeze(2)), a=conv(3), b=nn.Linear(6, 3)
    ),
    "excited": lambda: image(
        lambda n, x: x * torch.sigmoid(n.b(F.relu(n.a(x.mean((2, 3), keepdim=True))))),
        a=nn.Conv2d(6, 4, 1),
        b=nn.Conv2d(4, 6, 1),
    ),
    "softmax over channels": lambda: image(lambda n, x: n.b(n.a(x).softmax(1)), a=conv(), b=conv()),
    "sum over channels": lambda: image(lambda n, x: n.b(x + n.a(x).sum(1, keepdim=True)), a=conv(), b=conv()),
    "BatchNorm before": lambda: chain(nn.BatchNorm2d(6), nn.ReLU(), conv(bias=False), nn.BatchNorm2d(6), conv()),
    "BatchNorm without numbers": lambda: chain(conv(), nn.BatchNorm2d(6, affine=False), nn.ReLU(), conv()),
    "BatchNorm that two read": lambda: image(
        lambda n, x: n.n(n.a(x)) + n.a(x), a=conv(), n=nn.BatchNorm2d(6)
    ),
    "dropout": lambda: chain(conv(), nn.Dropout2d(), nn.Identity(), conv()),
    "exponential": lambda: image(lambda n, x: n.b(torch.exp(-n.a(x).abs())), a=conv(), b=conv()),
    "conditions on shapes": lambda: image(lambda n, x: n.a(x) if x.shape[1] == 6 else x, a=conv()),
    "several linear": lambda: Odd(
        lambda n, x: n.c(torch.tanh(n.b(torch.sigmoid(n.a(x.flatten(1)))))),
        a=nn.Linear(192, 12),
        b=nn.Linear(12, 12, bias=False),
        c=nn.Linear(12, 3),
    ),
}  # fmt: skip


def pruned(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network after random training and pruning: some weights, some whole units."""
    torch.manual_seed(seed)
    network = make().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.load_state_dict(
                    {"running_mean": torch.randn(6), "running_var": 0.5 + torch.rand(6)}, strict=False
                )
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and name.endswith("weight"):
                weight.mul_(torch.rand_like(weight) > (0.5, 0.9)[seed % 2])
                for dim in (0, 1):
                    dead = torch.rand(weight.shape[dim]) < 0.4
                    weight.mul_(~dead.view([-1 if dim == at else 1 for at in range(weight.ndim)]))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_odd_networks_give_the_same(name: str) -> None:
    """Fused, and smaller where they run with smaller layers; half or a tenth of the weights, in turn."""
    network = pruned(NETWORKS[name], list(NETWORKS).index(name))
    images = torch.randn(4, *IMAGES)
    with torch.no_grad():
        expected = network(images)
        assert are_close(expected, fuse(network, torch.zeros(2, *IMAGES))(images))
        try:
            state = shrink(network, torch.zeros(2, *IMAGES))
        except ValueError:
            assert name == "conditions on shapes"
        else:
            assert are_close(expected, resize(network, state)(images))


def test_a_normalization_without_numbers_of_its_own_gets_smaller() -> None:
    """It has a mean and a variance alone."""
    network: Any = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False), nn.Linear(3, 1)).eval()
    with torch.no_grad():
        network[2].weight[:, 1] = 0
        shrunk: Any = resize(network, shrink(network, torch.zeros(2, 2)))

    assert 2 == shrunk[1].num_features == len(shrunk[1].running_mean)
