"""The callback for trainers: its class, and the network that it holds inside the trained module."""

from __future__ import annotations

import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autosparse import Masks
from autosparse.errors import MissingExtra, UsageError
from tests.unit.api.conftest import checkered, masked, network, train

LIBRARIES = ("lightning.pytorch", "pytorch_lightning", "transformers")


class Callback:
    """Lightning's class of callbacks."""

    def setup(self) -> str:
        """A hook that the callback inherits."""
        return "lightning"


class TrainerCallback:
    """The class of callbacks of transformers."""


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning and transformers, imported."""
    known = [SimpleNamespace(Callback=Callback), None, SimpleNamespace(TrainerCallback=TrainerCallback)]
    for name, module in zip(LIBRARIES, known, strict=True):
        monkeypatch.setitem(sys.modules, name, module)


class Trained(nn.Module):
    """A module that a trainer trains, with parts of any name."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def unbound(model: nn.Module) -> Masks:
    """Masks of every second weight, without their model, as from a file."""
    return Masks(checkered(model))


@pytest.mark.usefixtures("libraries")
def test_a_callback_is_one_of_every_imported_library() -> None:
    """One object is a callback of both, and inherits the hooks that it does not need."""
    callback = checkered(network()).callback()

    assert all(isinstance(callback, kind) for kind in (Callback, TrainerCallback))
    assert "lightning" == callback.setup()
    with pytest.raises(AttributeError, match=r"no on_step: import the library of the trainer before"):
        callback.on_step()


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without either library the error names the command that installs one."""
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingExtra, match="neither can be imported") as caught:
        checkered(network()).callback()

    assert "run `pip install 'autosparse[lightning]'` or `pip install 'autosparse[transformers]'`" == caught.value.hint


@pytest.mark.usefixtures("libraries")
def test_a_broken_library_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers that fails when its class is asked for is not in the way of Lightning."""

    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("a wrong version of its dependency")

    monkeypatch.setitem(sys.modules, "transformers", Lazy("transformers"))
    assert isinstance(checkered(network()).callback(), Callback)

    for name in LIBRARIES[:2]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="neither can be imported"):
        checkered(network()).callback()


@pytest.mark.usefixtures("libraries")
def test_a_training_by_lightning() -> None:
    """Masks are applied before anything is validated, held in the training, and the zeros stay when it ends."""
    model = network()
    masks, other = unbound(model), nn.Linear(2, 1)
    root, callback = Trained(net=model, other=other), masks.callback()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9) for part in (model, other)]

    callback.on_fit_start(None, root)
    assert 0 == masked(model, masks).count_nonzero()
    model.load_state_dict(network(seed=3).state_dict())  # a checkpoint
    callback.on_train_start(SimpleNamespace(optimizers=optimizers), root)
    train(model, optimizers[0])
    assert 0 == masked(model, masks).count_nonzero()
    callback.on_train_end(None, root)
    model.load_state_dict(network(seed=3).state_dict())  # an average of weights, assigned by another callback
    callback.on_fit_end(None, root)

    assert 0 == masked(model, masks).count_nonzero()
    train(model, optimizers[0])
    assert masked(model, masks).count_nonzero() > 0


@pytest.mark.usefixtures("libraries")
def test_a_training_by_transformers() -> None:
    """Masks are held from the begin to the end; a training that failed leaves nothing to the next."""
    model = network()
    masks = unbound(model)
    callback = masks.callback()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        callback.on_train_begin(None, None, None, model=model, optimizer=optimizer)
        train(model, optimizer)
    callback.on_train_end(None, None, None, model=model)

    assert 0 == masked(model, masks).count_nonzero()
    train(model, optimizer)
    assert masked(model, masks).count_nonzero() > 0


@pytest.mark.usefixtures("libraries")
def test_an_exception_ends_the_hold() -> None:
    """After a training that fails, weights train again."""
    model = network()
    masks, optimizer = unbound(model), torch.optim.SGD(model.parameters(), lr=0.1)
    callback = masks.callback()
    callback.on_train_start(SimpleNamespace(optimizers=[optimizer]), model)
    callback.on_exception(None, model, ValueError())

    train(model, optimizer)
    assert masked(model, masks).count_nonzero() > 0


@pytest.mark.usefixtures("libraries")
def test_a_callback_travels_to_other_processes() -> None:
    """A pickled callback holds the same masks; it searches the network again."""
    model = network()
    callback = pickle.loads(pickle.dumps(checkered(model).callback("net")))

    assert checkered(model) == callback.masks
    assert "net" == callback.model
    assert isinstance(callback, Callback)


@pytest.mark.parametrize(
    ("model", "find"),
    [
        (None, lambda root: root.net),
        ("teacher", lambda root: root.teacher),
        ("net", lambda root: root.net),
    ],
)
def test_the_network_of_masks_in_a_trained_module(model: str | None, find: Any) -> None:
    """The part that the masks were made for is held, or the named one."""
    net = network()
    root = Trained(net=torch.compile(net), teacher=copy.deepcopy(net))  # type: ignore[arg-type]
    masks = checkered(net)

    assert masks.home_in(nn.DataParallel(root), model) is getattr(find(root), "_orig_mod", find(root))
    assert masks.home_in(root, root.get_submodule("teacher")) is root.teacher


def test_the_only_part_that_masks_fit() -> None:
    """Masks of a file fit one part, at any depth, or the whole module."""
    net = network()
    root = Trained(wrapper=Trained(inside=net), head=nn.Linear(64, 3))

    assert unbound(net).home_in(root) is net
    assert unbound(net).home_in(net) is net


@pytest.mark.parametrize(
    ("parts", "model", "sentence"),
    [
        ({"net": network(), "ema": network()}, None, "the masks fit several parts of Trained: net and ema"),
        ({"net": nn.Linear(2, 1)}, None, "the masks fit no part of Trained: it has no parameter 0.weight"),
        ({"net": network()}, "student", "Trained has no module student"),
    ],
)
def test_no_single_part(parts: dict[str, nn.Module], model: str | None, sentence: str) -> None:
    """Where masks fit none or several parts, the error says how to name the network."""
    with pytest.raises(UsageError, match=sentence) as caught:
        unbound(network()).home_in(Trained(**parts), model)

    assert caught.value.hint is not None
    assert "its modules are net" == caught.value.hint or 'masks.callback(model="net")' in caught.value.hint
