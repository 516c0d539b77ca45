"""Tickets on other networks: of the same shape, for other classes, deeper, wider."""

from __future__ import annotations

import math

import torch
from torch import nn

from autosparse.core.ticket import Ticket, source_of
from autosparse.core.weights import Tensors, prunable_weights
from autosparse.models import build_model
from tests.unit.core.conftest import assert_same


def ticket_of(model: nn.Module) -> Ticket:
    """A ticket with the order 0, 1, 2, ... of each layer's weights."""
    order = {name: torch.arange(float(w.numel())).view(w.shape) for name, w in prunable_weights(model).items()}
    return Ticket({name: part.clone() for name, part in model.state_dict().items()}, order, 10)


def built(name: str, seed: int, classes: int = 10, **options: int) -> nn.Module:
    """A network for small color images."""
    torch.manual_seed(seed)
    return build_model(name, options, (3, 16, 16), classes)


def fitted(ticket: Ticket, model: nn.Module) -> Ticket:
    """The ticket for another network."""
    state: Tensors = dict(model.state_dict())
    made = ticket.fitted(state)
    assert all(part.shape == state[name].shape for name, part in made.state.items())
    assert all(part.shape == state[name].shape for name, part in made.order.items())
    return made


def test_the_same_network_gets_all_of_it() -> None:
    """Every tensor and the whole order, at another seed too."""
    ticket = ticket_of(built("resnet8", 1, width=4))
    made = fitted(ticket, built("resnet8", 2, width=4))

    assert_same(ticket.state, made.state)
    assert_same(ticket.order, made.order)
    assert not made.notes


def test_the_head_for_other_classes_is_new() -> None:
    """Weight and bias of the head are left out, and all else is the ticket's."""
    ticket = ticket_of(built("resnet8", 1, width=4))
    model = built("resnet8", 2, classes=7, width=4)
    made = fitted(ticket, model)
    new = {name for name in model.state_dict() if name not in made.state}

    assert new == {name for name, part in model.state_dict().items() if part.ndim and part.shape[0] == 7}
    assert 0 < len(new) <= 2
    assert {*prunable_weights(model)} - {*made.order} == {name for name in new if name.endswith("weight")}


def test_a_deeper_network_repeats_blocks() -> None:
    """Every tensor of a ResNet-32 comes from one of a ResNet-20 of the same shape."""
    ticket = ticket_of(built("resnet20", 1, width=4))
    model = built("resnet32", 2, width=4)
    made = fitted(ticket, model)

    assert {*made.state} == {*model.state_dict()}
    assert len(made.notes) == 1
    assert "another depth, so blocks of it repeat" in made.notes[0]
    assert {*made.order} == {*prunable_weights(model)}
    for name, part in made.state.items():
        source = source_of(name, ticket.state)
        assert source is not None
        assert torch.equal(ticket.state[source], part), name


def test_a_shallower_network_drops_blocks() -> None:
    """A ResNet-20 takes the first blocks of a ResNet-32."""
    ticket = ticket_of(built("resnet32", 1, width=4))
    made = fitted(ticket, built("resnet20", 2, width=4))

    assert_same({name: ticket.state[name] for name in made.state}, made.state)


def test_a_wider_network_repeats_channels() -> None:
    """Outputs keep their size: twice the inputs, each times the root of a half."""
    narrow, wide = nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(8, 6))
    ticket = ticket_of(narrow)
    made = fitted(ticket, wide)

    expected = ticket.state["0.weight"].repeat(3, 2) * math.sqrt(0.5)
    assert torch.allclose(expected, made.state["0.weight"])
    assert torch.equal(ticket.order["0.weight"].repeat(3, 2), made.order["0.weight"])
    assert torch.equal(ticket.state["0.bias"].repeat(3), made.state["0.bias"])
    assert ["the ticket is of another width, so channels of it repeat or are left out: 0.weight, 0.bias"] == [
        *made.notes
    ]


def test_other_kernels_are_left_out() -> None:
    """A kernel of another size, or a tensor of another number of dimensions, has nothing to take."""
    ticket = ticket_of(nn.Sequential(nn.Conv2d(3, 4, 3)))

    assert not fitted(ticket, nn.Sequential(nn.Conv2d(3, 4, 5, bias=False))).state
    assert not fitted(ticket, nn.Sequential(nn.Linear(3, 4, bias=False))).state
