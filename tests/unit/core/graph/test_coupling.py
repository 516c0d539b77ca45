"""Coupled channels: which leave together, which stay and why, with equal outputs of the smaller network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.graph.coupling import Coupling
from autosparse.core.graph.slicing import sliced, slicing_of
from autosparse.core.graph.trial import find_groups, scrambled, without
from autosparse.core.inputs import call, tensors_in

F = nn.functional


class Net(nn.Module):
    """A network of parts and a function of it and its inputs."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the function's result."""
        return self.run(self, *inputs)


def images(channels: int = 3) -> torch.Tensor:
    """Two images of 6 × 6."""
    return torch.randn(2, channels, 6, 6)


def rows(*shape: int) -> torch.Tensor:
    """Two vectors, or sequences of vectors."""
    return torch.randn(2, *shape)


def read(coupling: Coupling) -> dict[str, str]:
    """Each group: its channels, then `tensor.dimension` with the elements a channel has, `<` for those that read."""
    return {
        group.name: " ".join(
            [
                str(group.channels),
                *(
                    f"{'<' if part.reads else ''}{part.tensor}.{part.dim}"
                    + (f"x{part.index.shape[1]}" if part.index.shape[1] > 1 else "")
                    for part in group.slices
                    if part.tensor.endswith("weight")
                ),
            ]
        )
        for group in coupling.groups
    }


def checked(network: nn.Module, inputs: Any) -> Coupling:
    """Return the groups of a network, which computes the same without some of every group's channels."""
    network = network.eval()
    coupling = find_groups(network, inputs)
    some = {group.name: torch.arange(group.channels) % 3 == 0 for group in coupling.groups}
    random = scrambled(network)
    masked = [*tensors_in(call(without(random, coupling.groups, some), inputs))]
    smaller = [*tensors_in(call(sliced(random, slicing_of(random, coupling.groups, some)), inputs))]
    for one, other in zip(masked, smaller, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    return coupling


def unet() -> nn.Module:
    """Return a network that reads an earlier feature map next to an upsampled one."""

    def run(self: Any, x: torch.Tensor) -> Any:
        high = F.relu(self.norm(self.first(x)))
        low = F.relu(self.second(F.max_pool2d(high, 2)))
        return self.last(torch.cat([high, self.up(low)], 1))

    return Net(
        run,
        first=nn.Conv2d(3, 6, 3, padding=1),
        norm=nn.BatchNorm2d(6),
        second=nn.Conv2d(6, 8, 1),
        up=nn.ConvTranspose2d(8, 5, 2, 2),
        last=nn.Conv2d(11, 2, 1),
    )


def residual() -> nn.Module:
    """Return a network with a residual sum."""

    def run(self: Any, x: torch.Tensor) -> Any:
        x = self.first(x)
        return self.last(x + self.down(F.relu(self.up(x))))

    return Net(run, first=nn.Linear(3, 8), up=nn.Linear(8, 5), down=nn.Linear(5, 8), last=nn.Linear(8, 2))


def attention(keys: int = 4, width: int = 4) -> nn.Module:
    """Return an attention with four heads, or fewer of keys and values."""

    def run(self: Any, x: torch.Tensor) -> Any:
        q, k, v = (layer(x).unflatten(-1, (-1, width)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        k, v = (one.repeat_interleave(4 // keys, 1) for one in (k, v))
        return self.last(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    layers = {"k": nn.Linear(6, keys * width), "v": nn.Linear(6, keys * width)}
    return Net(run, q=nn.Linear(6, 4 * width), **layers, last=nn.Linear(4 * width, 3))


def squeeze_excite() -> nn.Module:
    """Return a network with gates of channels."""

    def run(self: Any, x: torch.Tensor) -> Any:
        x = self.first(x)
        gates = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.last((x * gates).mean((2, 3)))

    layers = {"down": nn.Conv2d(8, 4, 1), "up": nn.Conv2d(4, 8, 1)}
    return Net(run, first=nn.Conv2d(3, 8, 1), **layers, last=nn.Linear(8, 2))


def padded_shortcut() -> nn.Module:
    """Return a residual network whose shortcut has zeros for new channels."""

    def run(self: Any, x: torch.Tensor) -> Any:
        x = self.first(x)
        return self.last((F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + self.second(x)).mean((2, 3)))

    return Net(run, first=nn.Conv2d(3, 4, 1), second=nn.Conv2d(4, 8, 1, 2), last=nn.Linear(8, 2))


def gated() -> nn.Module:
    """Return an MLP whose halves are multiplied."""

    def run(self: Any, x: torch.Tensor) -> Any:
        value, gate = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)

    return Net(run, up=nn.Linear(5, 16), down=nn.Linear(8, 3))


def shuffled() -> nn.Module:
    """Return a network that shuffles the channels of two groups."""

    def run(self: Any, x: torch.Tensor) -> Any:
        x = self.first(x)
        return self.last(x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2))

    return Net(run, first=nn.Conv2d(3, 8, 1), last=nn.Conv2d(8, 2, 1))


def tied() -> nn.Module:
    """Return a language model whose head is its embedding."""
    network = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 11, bias=False))
    network[3].weight = network[0].weight
    return network


def twice() -> nn.Module:
    """Return a network that uses a layer twice."""
    layer = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(3, 8), layer, nn.ReLU(), layer, nn.Linear(8, 2))


def several() -> nn.Module:
    """Return a network with two inputs and two outputs."""

    def run(self: Any, one: torch.Tensor, other: torch.Tensor) -> Any:
        x = self.first(one)
        return self.last(F.relu(x + self.second(other))), {"more": self.more(x)}

    layers = {"second": nn.Linear(4, 8), "last": nn.Linear(8, 2), "more": nn.Linear(8, 1)}
    return Net(run, first=nn.Linear(3, 8), **layers)


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    """Return a function that makes a convolution of 8 channels, layers and a convolution."""
    last = next((one.out_channels for one in layers if isinstance(one, nn.Conv2d)), 8)
    return lambda: nn.Sequential(nn.Conv2d(3, 8, 1), *layers, nn.Conv2d(last, 2, 1))


COUPLED: dict[str, Any] = {
    "concatenation": (
        unet,
        images(),
        {
            "first": "6 first.weight.0 norm.weight.0 <second.weight.1 <last.weight.1",
            "second": "8 second.weight.0 <up.weight.0",
            "up": "5 up.weight.1 <last.weight.1",
        },
    ),
    "residual": (
        residual,
        rows(3),
        {
            "first": "8 first.weight.0 <up.weight.1 down.weight.0 <last.weight.1",
            "up": "5 up.weight.0 <down.weight.1",
        },
    ),
    "heads": (attention, rows(5, 6), {"q": "4 q.weight.0x4 k.weight.0x4 v.weight.0x4 <last.weight.1x4"}),
    "grouped-query": (
        lambda: attention(2),
        rows(5, 6),
        {"q": "2 q.weight.0x8 k.weight.0x4 v.weight.0x4 <last.weight.1x8"},
    ),
    "squeeze-excite": (
        squeeze_excite,
        images(),
        {
            "first": "8 first.weight.0 <down.weight.1 up.weight.0 <last.weight.1",
            "down": "4 down.weight.0 <up.weight.1",
        },
    ),
    "padded shortcut": (
        padded_shortcut,
        images(),
        {"first": "4 first.weight.0 second.weight.0 <second.weight.1 <last.weight.1"},
    ),
    "chunk": (gated, rows(5), {"up": "8 up.weight.0x2 <down.weight.1"}),
    "GLU": (
        lambda: nn.Sequential(nn.Linear(5, 16), nn.GLU(), nn.Linear(8, 3)),
        rows(5),
        {"0": "8 0.weight.0x2 <2.weight.1"},
    ),
    "shuffle": (shuffled, images(), {"first": "4 first.weight.0x2 <last.weight.1x2"}),
    "shuffle layer": (chain(nn.ChannelShuffle(2)), images(), {"0": "4 0.weight.0x2 <2.weight.1x2"}),
    "depthwise": (chain(nn.Conv2d(8, 16, 1, groups=8)), images(), {"0": "8 0.weight.0 1.weight.0x2 <2.weight.1x2"}),
    "groups": (chain(nn.Conv2d(8, 12, 1, groups=4)), images(), {"0": "4 0.weight.0x2 1.weight.0x3 <2.weight.1x3"}),
    "wide groups": (
        chain(nn.Conv2d(8, 12, 1, groups=2)),
        images(),
        {"0": "4 0.weight.0x2 <1.weight.1", "1": "6 1.weight.0x2 <2.weight.1x2"},
    ),
    "transposed groups": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, groups=2), nn.Conv2d(12, 2, 1)),
        images(),
        {"0": "4 0.weight.0x2 <1.weight.0x2", "1": "6 1.weight.1 <2.weight.1x2"},
    ),
    "group norm": (chain(nn.GroupNorm(4, 8)), images(), {"0": "4 0.weight.0x2 1.weight.0x2 <2.weight.1x2"}),
    "instance norm": (
        chain(nn.InstanceNorm2d(8, affine=True)),
        images(),
        {"0": "8 0.weight.0 1.weight.0 <2.weight.1"},
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 2, 1)),
        images(),
        {"0": "2 0.weight.0x4 <2.weight.1"},
    ),
    "flatten": (
        lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(20, 2)),
        rows(3, 6),
        {"0": "5 0.weight.0 1.weight.0 <3.weight.1x4"},
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Conv3d(4, 2, 1)),
        rows(3, 2, 2, 2),
        {"0": "4 0.weight.0 1.weight.0 <3.weight.1"},
    ),
    "tied": (
        tied,
        torch.arange(6).view(2, 3),
        {"1": "8 1.weight.0 <2.weight.1", "2": "6 <1.weight.1 2.weight.0 <3.weight.1"},
    ),
    "twice": (twice, rows(3), {"0": "8 0.weight.0 1.weight.0 <1.weight.1 <4.weight.1"}),
    "several": (
        several,
        (rows(3), rows(4)),
        {"first": "8 first.weight.0 second.weight.0 <last.weight.1 <more.weight.1"},
    ),
    "buffer": (
        lambda: Net(
            lambda self, x: self.last(self.first(x) * self.scale),
            scale=torch.rand(8),
            first=nn.Linear(3, 8),
            last=nn.Linear(8, 2),
        ),
        rows(3),
        {"first": "8 first.weight.0 <last.weight.1"},
    ),
    "after an LSTM": (
        lambda: Net(
            lambda self, x: self.last(F.relu(self.middle(self.memory(x)[0]))),
            memory=nn.LSTM(4, 6, batch_first=True),
            middle=nn.Linear(6, 5),
            last=nn.Linear(5, 2),
        ),
        rows(3, 4),
        {"middle": "5 middle.weight.0 <last.weight.1"},
    ),
}


@pytest.mark.parametrize("kind", COUPLED)
def test_channels_leave_together(kind: str) -> None:
    """Every group has the slices that one channel is in; the smaller network computes the same."""
    build, inputs, expected = COUPLED[kind]

    assert expected == read(checked(build(), inputs))


def frozen() -> nn.Module:
    """Return a network with a frozen layer in the middle."""
    network = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 4))
    network[1].requires_grad_(False)
    return network


WHOLE: dict[str, Any] = {
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
        rows(3),
        dict.fromkeys(("0.weight", "2.weight"), "`1` normalizes them together"),
    ),
    "one group": (
        chain(nn.GroupNorm(1, 8)),
        images(),
        dict.fromkeys(("0.weight", "2.weight"), "all of them are coupled to one another"),
    ),
    "attention of torch": (
        lambda: Net(lambda self, x: self.heads(x, x, x)[0], heads=nn.MultiheadAttention(8, 2, batch_first=True)),
        rows(3, 8),
        dict.fromkeys(
            ("heads.in_proj_weight", "heads.out_proj.weight"),
            "the code of `heads` (MultiheadAttention) fixes their number",
        ),
    ),
    "fixed sizes": (
        lambda: Net(
            lambda self, x: self.last(self.first(x).view(2, 4, 2).sum(2)), first=nn.Linear(3, 8), last=nn.Linear(4, 2)
        ),
        rows(3),
        dict.fromkeys(("first.weight", "last.weight"), "the code of the network fixes their number"),
    ),
    "no rule": (
        lambda: Net(lambda self, x: self.last(self.first(x).sort(-1)[0]), first=nn.Linear(3, 8), last=nn.Linear(8, 2)),
        rows(3),
        dict.fromkeys(
            ("first.weight", "last.weight"), "the network's code combines them by `sort`, which is not supported"
        ),
    ),
    "frozen": (
        frozen,
        rows(3),
        dict.fromkeys(
            ("0.weight", "2.weight"),
            "they are coupled to `1.weight`, which stays whole (frozen: requires_grad is False)",
        ),
    ),
    "parametrized": (
        lambda: nn.Sequential(nn.Linear(3, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)), nn.Linear(4, 2)),
        rows(3),
        dict.fromkeys(("0.weight", "2.weight"), "`1` computes its weight from other tensors"),
    ),
    "unused": (
        lambda: Net(lambda self, x: self.first(x), first=nn.Linear(3, 8), other=nn.Linear(3, 8)),
        rows(3),
        {"first.weight": "they are the network's outputs", "other.weight": "evaluation does not use it"},
    ),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_layers_stay_whole_with_a_reason(kind: str) -> None:
    """A layer whose channels cannot leave is named, with one clause."""
    build, inputs, expected = WHOLE[kind]
    coupling = checked(build(), inputs)

    assert {} == read(coupling)
    assert expected == dict(coupling.whole)


def test_a_network_that_cannot_be_recorded_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """With the reason in one line, and nothing else."""
    network = Net(lambda self, x: self.first(x) if x.sum() > 0 else x, first=nn.Linear(3, 3))

    with pytest.raises(ValueError, match=r"^torch\.export does not record it: .*data-dependent") as caught:
        find_groups(network.eval(), rows(3))

    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_weights_are_read_without_a_copy_of_their_elements() -> None:
    """A transposed and sliced parameter knows its dimensions from its strides."""
    from autosparse.core.graph.channel_held import Held

    whole = Held(("weight",), 10, torch.empty(3, 4, 1, device="meta"))

    assert (1, 0, 2) == whole.moved(lambda one: one.transpose(0, 1)).order
    assert (0, 1) == whole.moved(lambda one: one.squeeze(2)).order
    part = whole.moved(lambda one: one[1:, ::2])
    assert part.order is None
    assert torch.arange(10, 22).view(3, 4, 1)[1:, ::2].tolist() == part.positions.tolist()
    assert (
        torch.arange(10, 22).view(3, 4, 1).flip(0).tolist() == whole.moved(lambda one: one.flip(0)).positions.tolist()
    )
