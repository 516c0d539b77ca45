"""Every format gives its model back, and in how many bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import autosparse
from autosparse.exporters import Model, exporters, open_model
from autosparse.exporters.compact import FILE, compact, read
from autosparse.models import build_model
from autosparse.store import dump_tensors


def model(sparsity: float, shape: tuple[int, ...] = (64, 32, 3, 3), seed: int = 0) -> Model:
    """A pruned layer at random, its bias, and a tensor that is not pruned."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=random) >= sparsity
    weight = torch.randn(shape, generator=random) * mask
    return Model(
        {"a.weight": weight, "a.bias": torch.randn(shape[0], generator=random), "seen": torch.tensor(7)},
        {"a.weight": mask},
    )


def assert_same(expected: Model, found: Model) -> None:
    """The same tensors and masks under the same names."""
    assert expected.state.keys() == found.state.keys()
    assert expected.masks.keys() == found.masks.keys()
    for name, tensor in expected.state.items():
        assert torch.equal(tensor, found.state[name])
        assert tensor.dtype == found.state[name].dtype
    for name, mask in expected.masks.items():
        assert torch.equal(mask, found.masks[name])


@pytest.mark.parametrize("format", [entry.name for entry in exporters if entry.facts["exact"]])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.98, 0.999, 1.0])
def test_a_model_comes_back_as_it_was(format: str, sparsity: float) -> None:
    """Exactly: state, masks, and the kinds of numbers; the same model gives the same bytes."""
    given = model(sparsity)
    entry = exporters[format]
    files = entry.function(given)

    assert tuple(files) == entry.facts["files"]
    assert files == entry.function(given)
    assert_same(given, entry.facts["read"](files))


def pruned(name: str, shape: tuple[int, int, int]) -> Model:
    """A network of which layers have lost channels, and half of the other weights."""
    torch.manual_seed(0)

    def network() -> torch.nn.Module:
        return build_model(name, {}, shape, 10)

    state = network().state_dict()
    masks = {key: torch.rand(t.shape) < 0.5 for key, t in state.items() if key.endswith("weight") and t.ndim > 1}
    for mask in list(masks.values())[:-1]:
        mask[torch.rand(len(mask)) < 0.3] = False
    return Model({key: t * masks[key] if key in masks else t for key, t in state.items()}, masks, network, shape)


@pytest.mark.parametrize("format", exporters.names)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet8", (3, 16, 16)), ("mlp", (1, 8, 8)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("vgg11", (3, 32, 32)), ("mobilenet", (3, 16, 16)))),
    ],
)  # fmt: skip
def test_outputs_are_those_of_the_pruned_network(format: str, name: str, shape: tuple[int, int, int]) -> None:
    """Up to rounding, for one image and for several."""
    model = pruned(name, shape)
    entry = exporters[format]
    files = entry.function(model)
    assert model.network is not None
    whole, found = model.network(), open_model(format, files, model.network())
    whole.load_state_dict(dict(model.state))
    whole.eval()

    assert tuple(files) == entry.facts["files"]
    for count in (1, 7):
        images = torch.randn(count, *shape)
        with torch.no_grad():
            torch.testing.assert_close(whole(images), found(images), rtol=1e-4, atol=1e-5)


def test_no_file_tells_where_it_was_made() -> None:
    """Networks are traced, and traces know the files of the machine."""
    model = pruned("mlp", (1, 8, 8))
    data = b"".join(part for entry in exporters for part in entry.function(model).values())

    assert str(Path(autosparse.__file__).parent).encode() not in data


@pytest.mark.parametrize("format", [entry.name for entry in exporters if not entry.facts["exact"]])
def test_a_network_that_cannot_be_recorded_has_no_such_model(format: str) -> None:
    """It is told why."""

    class Branching(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs if float(inputs.sum()) > 0 else -inputs)

    state = Branching(2, 2).state_dict()

    with pytest.raises(ValueError, match=r"torch\.\w+ does not (record|export) it"):
        exporters[format].function(Model(state, {}, lambda: Branching(2, 2), (2,)))


@given(st.lists(st.booleans(), min_size=1, max_size=700), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_compact_takes_any_mask(places: list[bool], gap: int) -> None:
    """Runs of pruned weights of any length, at either end, and layers that keep everything or nothing."""
    mask = torch.cat([torch.tensor(places), torch.zeros(gap * 200, dtype=torch.bool)])
    weight = torch.where(mask, torch.arange(1.0, len(mask) + 1), 0.0)
    whole = Model({"w": weight}, {"w": mask})

    assert_same(whole, read(compact(whole)))


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98, 0.99, 0.995, 0.999])
def test_compact_is_near_the_limit_of_information(sparsity: float) -> None:
    """Values and the entropy of the mask are the least there can be: at most a seventh more, far from a bit a place."""
    given = model(sparsity, (512, 256, 3, 3))
    size, kept = given.masks["a.weight"].numel(), int(given.masks["a.weight"].sum())
    share = kept / size
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    rest = len(dump_tensors({name: tensor for name, tensor in given.state.items() if name != "a.weight"}))

    taken = len(compact(given)[FILE]) - rest

    assert taken < 1.15 * (4 * kept + size * entropy / 8)
    if sparsity >= 0.95:
        assert taken < 4 * kept + size / 8


@pytest.mark.parametrize("values", ["float16", "bfloat16"])
def test_values_may_be_rounded(values: str) -> None:
    """To half the bytes: each weight is the nearest number of that kind, pruned ones stay zero."""
    given = model(0.9)
    whole, files = compact(given), compact(given, values=values)
    found = read(files).state["a.weight"]

    assert len(files[FILE]) < 0.75 * len(whole[FILE])
    assert torch.equal(given.state["a.weight"].to(getattr(torch, values)).float(), found)


def stored(**changed: torch.Tensor | None) -> dict[str, bytes]:
    """A file of one tensor of six numbers, of which two are there, with parts of it changed or left out."""
    parts: dict[str, torch.Tensor | None] = {
        "w/shape": torch.tensor([2, 3]), "w/values": torch.tensor([1.0, 2.0]),
        "w/steps": torch.tensor([1, 2], dtype=torch.uint8),
    }  # fmt: skip
    parts |= {name.replace("_", "/"): tensor for name, tensor in changed.items()}
    return {FILE: dump_tensors({name: tensor for name, tensor in parts.items() if tensor is not None})}


def test_what_is_stored() -> None:
    """Steps say how many places are skipped before each value."""
    assert [[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]] == read(stored()).state["w"].tolist()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"w_shape": torch.tensor([2.0, 3.0])}, "is no shape"),
        ({"w_shape": torch.tensor([-2, -3])}, "is no shape"),
        ({"w_shape": torch.tensor([2**20, 2**20])}, "claims to hold more numbers"),
        ({"w_shape": torch.tensor([1, 3])}, "beyond its 3 places"),
        ({"w_values": None}, "has no values"),
        ({"w_values": torch.tensor([1.0])}, "has 1 values for 2 places"),
        ({"w_steps": None}, "does not say in one way"),
        ({"w_bits": torch.tensor([1], dtype=torch.uint8)}, "does not say in one way"),
        ({"w_steps": None, "w_bits": torch.tensor([1, 0], dtype=torch.uint8)}, "of each of its 6 places"),
        ({"w_steps": torch.tensor([1, 255], dtype=torch.uint8)}, "ends within a step"),
        ({"w_steps": torch.tensor([1, 2])}, "does not tell steps"),
        ({"w_steps": torch.tensor([[1, 2]], dtype=torch.uint8)}, "does not tell steps"),
    ],
)
def test_what_is_no_compact_model_is_refused(changed: dict[str, torch.Tensor | None], text: str) -> None:
    """With a sentence, before anything of the size that is claimed is made."""
    with pytest.raises(ValueError, match=text):
        read(stored(**changed))
