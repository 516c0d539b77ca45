"""Dead channels go, outputs stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.graph.shrink import fuse, like_fused, resize, shrink
from autosparse.models import build_model


def smaller(network: Any, *shape: int, multiple: int = 1) -> Any:
    """The network without its dead channels, checked to give the same."""
    network = network.eval()
    shrunk = resize(network, shrink(network, torch.zeros(2, *shape), multiple))
    images = torch.randn(5, *shape)
    with torch.no_grad():
        torch.testing.assert_close(network(images), shrunk(images), rtol=1e-5, atol=1e-6)
    return shrunk


def put(parameter: torch.Tensor | None, values: object) -> None:
    """Give a parameter these values."""
    assert parameter is not None
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))


def test_a_number_goes_into_the_bias_of_what_reads_it() -> None:
    """The middle unit is ReLU(3) whatever the input, and the last one is read by nothing: one of three stays."""
    network: Any = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    put(network[0].weight, [[1.0, 2.0], [0.0, 0.0], [4.0, 5.0]])
    put(network[0].bias, [0.5, 3.0, 0.0])
    put(network[2].weight, [[1.0, 10.0, 0.0]])
    put(network[2].bias, [7.0])

    shrunk = smaller(network, 2)

    assert [[1.0, 2.0]] == shrunk[0].weight.tolist()
    assert [0.5] == shrunk[0].bias.tolist()
    assert [[1.0]] == shrunk[2].weight.tolist()
    assert [37.0] == shrunk[2].bias.tolist()
    assert (1, 1) == (shrunk[0].out_features, shrunk[2].in_features)


def test_a_layer_without_bias_gets_one() -> None:
    """If a removed channel had a constant output."""
    network: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    put(network[0].weight, [[1.0, 2.0], [0.0, 0.0]])
    put(network[0].bias, [0.0, 3.0])
    put(network[1].weight, [[1.0, 2.0]])

    assert [6.0] == smaller(network, 2)[1].bias.tolist()


def test_one_channel_stands_for_all_that_are_the_same_everywhere() -> None:
    """Zeros around an image are not their number: the largest stays, with the weights of all in proportion."""
    network: Any = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 3, padding=1))
    put(network[0].weight, [[[[1.0]]], [[[0.0]]], [[[0.0]]], [[[0.0]]]])
    put(network[0].bias, [0.0, 1.0, 2.0, 4.0])
    kernels = network[1].weight.detach().clone()

    shrunk = smaller(network, 1, 5, 5)

    assert [0.0, 4.0] == shrunk[0].bias.tolist()
    torch.testing.assert_close(kernels[:, 3] + kernels[:, 2] / 2 + kernels[:, 1] / 4, shrunk[1].weight[:, 1])


def test_what_zero_gives_is_no_trouble_at_the_border() -> None:
    """A channel of zeros goes for good, though the layer after it puts zeros around."""
    network: Any = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1, bias=False))
    put(network[0].weight, [[[[1.0]]], [[[0.0]]]])

    shrunk = smaller(network, 1, 5, 5)

    assert (1, 1, 3, 3) == shrunk[2].weight.shape
    assert shrunk[2].bias is None


class Residual(nn.Module):
    """Two branches into one sum, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> Any:
        """Logits."""
        stem = self.stem(images)
        return self.head(torch.relu(stem + self.norm(self.branch(stem))).mean((2, 3)))


def test_a_channel_of_a_sum_goes_if_all_its_parts_are_dead() -> None:
    """The first is dead in both, the second in the branch alone, the third in the stem alone."""
    network: Any = Residual()
    with torch.no_grad():
        network.norm.running_mean.normal_()
        for layer, dead in ((network.stem, [0, 2]), (network.branch, [0, 1])):
            layer.weight[dead] = 0

    shrunk = smaller(network, 3, 6, 6)

    assert (
        3
        == shrunk.stem.out_channels
        == shrunk.branch.out_channels
        == shrunk.norm.num_features
        == shrunk.head.in_features
    )


class Excited(nn.Module):
    """A depthwise convolution, and a product with numbers for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.squeeze, self.last = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, images: torch.Tensor) -> Any:
        """A map."""
        seen = torch.relu(self.depthwise(torch.relu(self.first(images))))
        return self.last(seen * torch.sigmoid(self.squeeze(seen.mean((2, 3), keepdim=True))))


def test_groups_go_with_their_channels() -> None:
    """Channels that the last layer does not read leave the depthwise layer and what excites them."""
    network: Any = Excited()
    with torch.no_grad():
        network.last.weight[:, [1, 4]] = 0
        network.squeeze.weight[:, [1, 4]] = 0

    shrunk = smaller(network, 2, 6, 6)

    assert (4, 4, (4, 1, 3, 3)) == (shrunk.depthwise.groups, shrunk.squeeze.out_channels, shrunk.depthwise.weight.shape)


class Attending(nn.Module):
    """A block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norms = nn.Conv2d(3, 8, 4, 4), nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden, self.out, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> Any:
        """Logits."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        seen = self.norms[0](tokens)
        tokens = tokens + self.attention(seen, seen, seen, need_weights=False)[0]
        tokens = tokens + self.out(nn.functional.gelu(self.hidden(self.norms[1](tokens))))
        return self.head(tokens.mean(dim=1))


def test_what_is_not_understood_stays() -> None:
    """Of a transformer the hidden units of its linear layers go, what attention and LayerNorm see does not."""
    network: Any = Attending()
    with torch.no_grad():
        network.hidden.weight[:5] = 0
        network.out.weight[:, 5:7] = 0
        network.patches.weight[:2] = 0

    shrunk = smaller(network, 3, 16, 16)

    assert (9, 9, 8) == (shrunk.hidden.out_features, shrunk.out.in_features, shrunk.patches.out_channels)


class Shared(nn.Module):
    """One layer in two places, and channels put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> Any:
        """Logits."""
        first = self.first(images)
        both = torch.cat([torch.relu(first), self.twice(self.twice(first))], dim=1)
        return self.last(nn.functional.adaptive_avg_pool2d(both, 1).flatten(1))


def test_a_layer_that_is_used_twice_stays() -> None:
    """Its weights would have to fit both places."""
    network: Any = Shared()
    with torch.no_grad():
        network.first.weight[1] = 0
        network.twice.weight[2] = 0

    assert (4, 4) == tuple(smaller(network, 3, 4, 4).twice.weight.shape[:2])


class Written(nn.Module):
    """Sizes of layers are written in its code, and one dimension that may go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.second = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.Conv2d(6, 8, 3)
        self.last, self.head = nn.Conv2d(8, 4, 1), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> Any:
        """Logits."""
        first = torch.relu(self.first(images))
        gated = first * torch.sigmoid(self.gate(first.mean((2, 3)))).view(-1, 6, 1, 1)
        return self.head(self.last(torch.relu(self.second(gated))).mean((2, 3), keepdim=True).squeeze())


def test_sizes_that_are_written_in_code_stay() -> None:
    """Channels on both sides of a view or a squeeze are kept, others go."""
    network: Any = Written()
    with torch.no_grad():
        for layer in (network.first, network.second, network.last):
            layer.weight[1:] = 0

    shrunk = smaller(network, 3, 8, 8)

    assert (6, 6, 4) == (shrunk.first.out_channels, shrunk.gate.out_features, shrunk.last.out_channels)
    assert 8 > shrunk.second.out_channels


def test_a_network_that_is_cut_gives_its_numbers() -> None:
    """No layer is left without channels."""
    network = build_model("lenet", {}, (1, 28, 28), 10)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.zero_()

    assert 200 > sum(weight.numel() for weight in smaller(network, 1, 28, 28).parameters())


BUILT: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "resnet8": lambda: (build_model("resnet8", {}, (3, 16, 16), 10), (3, 16, 16)),
    "vgg": lambda: (build_model("vgg11", {}, (3, 32, 32), 10), (3, 32, 32)),
    "mobilenet": lambda: (build_model("mobilenet", {"width": 8}, (3, 16, 16), 10), (3, 16, 16)),
    "mlp": lambda: (build_model("mlp", {}, (1, 8, 8), 10), (1, 8, 8)),
    "torchvision": lambda: (build_model("torchvision:squeezenet1_1", {}, (3, 32, 32), 10), (3, 32, 32)),
}


@pytest.mark.parametrize("name", BUILT)
def test_networks_of_any_kind(name: str) -> None:
    """With a third of the channels of every layer dead, constants and statistics at random: smaller, and the same."""
    torch.manual_seed(0)
    network, shape = BUILT[name]()
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith(("bias", "running_mean")):
                tensor.normal_(std=0.3)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim > 1:
                tensor[torch.rand(len(tensor)) < 0.3] = 0
                tensor *= torch.rand_like(tensor) < 0.5

    shrunk = smaller(network, *shape)

    sizes = [sum(weight.numel() for weight in one.parameters()) for one in (network, shrunk)]
    assert sizes[1] < 0.8 * sizes[0]

    filled = smaller(network, *shape, multiple=4)
    dense, counts, fewest = (
        [len(module.weight) for module in one.modules() if isinstance(module, nn.Conv2d)]
        for one in (network, filled, shrunk)
    )
    assert [min(a, -(-c // 4) * 4) for a, c in zip(dense, fewest, strict=True)] == counts


def test_normalizations_go_into_the_layers_before_them() -> None:
    """Those that alone read a layer: not one behind a ReLU, nor one next to another reader."""

    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)
            self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm1d(2)])

        def forward(self, images: torch.Tensor) -> Any:
            first = self.norms[1](torch.relu(self.norms[0](self.first(images))))
            second = self.second(first)
            return self.norms[3](self.last((self.norms[2](second) + second).mean((2, 3))))

    torch.manual_seed(0)
    network = Normalized().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "norm" in name else tensor.normal_()
    fused: Any = fuse(network, torch.zeros(2, 3, 6, 6))
    images = torch.randn(5, 3, 6, 6)
    again = resize(like_fused(network, fused.state_dict()), fused.state_dict())

    assert [False, True, True, False] == [isinstance(norm, nn.BatchNorm2d) for norm in fused.norms]
    with torch.no_grad():
        torch.testing.assert_close(network(images), fused(images))
        torch.testing.assert_close(fused(images), again(images))


class Branching(nn.Module):
    """A network that no graph can record: it asks for a value."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Nothing."""
        return images if float(images.sum()) > 0 else -images


def test_a_network_that_cannot_be_recorded_is_told_so() -> None:
    """With one sentence."""
    with pytest.raises(ValueError, match=r"torch\.export does not record it: .+"):
        shrink(Branching().eval(), torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("0.weight", (5, 2)), ("0.weight", (3, 1, 1)), ("0.bias", (2,)), ("2.bias", (2,)), ("1.weight", (1,)),
        ("3.x", (1,)),
    ],
)  # fmt: skip
def test_tensors_of_another_network_are_refused(name: str, shape: tuple[int, ...]) -> None:
    """Larger than its layers, of other inputs, or of layers that it has not."""
    network: Any = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False))
    state = {**network.state_dict(), name: torch.zeros(shape)}

    with pytest.raises(ValueError, match="is of no smaller form of the network"):
        resize(network, state)


def test_a_tensor_that_is_not_there_is_missed() -> None:
    """By its name."""
    network = nn.Linear(2, 3)

    with pytest.raises(ValueError, match="tensor bias is missing"):
        resize(network, {"weight": network.weight})
