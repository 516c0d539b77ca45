"""Every format gives its model back, and in how many bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.core.graph.shrink import same_outputs
from autosparse.exporters import Model, Preprocessing, Signature, exporters, fit
from autosparse.exporters.compact import FILE, compact, read
from autosparse.exporters.dense import hub
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


def assert_same(expected: Model, result: Model) -> None:
    """The same tensors and masks under the same names."""
    assert expected.state.keys() == result.state.keys()
    assert expected.masks.keys() == result.masks.keys()
    for name, tensor in expected.state.items():
        assert torch.equal(tensor, result.state[name])
        assert tensor.dtype == result.state[name].dtype
    for name, mask in expected.masks.items():
        assert torch.equal(mask, result.masks[name])


@pytest.mark.parametrize("format", [entry.name for entry in exporters if entry.facts["exact"]])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.98, 0.999, 1.0])
def test_a_model_comes_back_as_it_was(format: str, sparsity: float) -> None:
    """Exactly: state, masks, and the kinds of numbers; the same model gives the same bytes."""
    given = replace(model(sparsity), about=about("vgg"))
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
    kept = {key: t * masks[key] if key in masks else t for key, t in state.items()}
    return Model(kept, masks, network, shape, about=about(name, shape))


def about(name: str, shape: tuple[int, ...] = (3, 4, 4), method: str = "learned", **options: object) -> dict[str, Any]:
    """Content of the card of a model."""
    made = {"data": {"identity": {"name": "digits"}}, "train": {"training": {"epochs": 1}}, "mask": options}
    layers = [{"name": "a.weight", "size": 200, "kept": 3}]
    return {
        "method": method, "sparsity": 0.985, "seed": 1,
        "network": {"model": {"name": name}, "shape": shape, "classes": 10},
        "accuracy": {"test_accuracy": 90.0, "kept": 3, "total": 200, "layers": layers},
        "options": made, "keys": {"train": "0" * 64}, "environment": {"torch": "2"},
        "others": {f"method.{method}.0": 92.0, f"control.{method}.shuffle.1": 88.0},
    }  # fmt: skip


def signed(names: tuple[str, ...] = ("no", "yes"), channels: int = 3) -> Signature:
    """A signature for images of 4 x 4 pixels, with its classes' names."""
    images = Preprocessing.of((channels, 4, 4), [0.5] * channels, [0.25] * channels)
    return Signature.of((channels, 4, 4), len(names), names, images)


def test_a_model_card_tells_how_good_it_is_and_how_it_was_made() -> None:
    """Mean and sd over seeds, controls, kept weights, usage, preprocessing; its head is YAML that a hub reads."""
    text = hub(replace(model(0.9), about=about("vgg"), signature=signed()), license="mit")["README.md"].decode()
    head = yaml.safe_load(text.split("---\n")[1])

    assert "| learned | 91.00 ± 1.41 | 0, 1 |" in text
    assert "| control learned.shuffle | 88.00 | 1 |" in text
    assert "| `a.weight` | 200 | 3 (1.5 %) |" in text
    assert "mean `0.5, 0.5, 0.5` and std `0.25, 0.25, 0.25`" in text
    assert "convert it to `RGB`, scale and crop it to 4 x 4 pixels by `PIL.ImageOps.fit` (bilinear)" in text
    assert "logits of 2 classes, in this order: `no`, `yes`." in text
    assert "$" not in text
    assert ("mit", "image-classification") == (head["license"], head["pipeline_tag"])
    assert 90.0 == head["model-index"][0]["results"][0]["metrics"][0]["value"]


@pytest.mark.parametrize("named", ["a|b", "`x`", "<script>", "a\n---\nlicense: gpl", "$network", "${seed}", "\x1b[31m"])
def test_names_are_no_markup(named: str) -> None:
    """Whatever a method, a network, a class or an option is called, the card and its head have the same structure."""
    plain, odd = (
        hub(replace(model(0.9), about=about(name, method=name, option=name), signature=signed((name, "z"))))[
            "README.md"
        ].decode()
        for name in ("x", named)
    )

    (plain_head, plain_text), (odd_head, odd_text) = (card.split("\n---\n") for card in (plain, odd))
    for mark in "|`\n":
        assert plain_text.count(mark) == odd_text.count(mark)
    assert "<script>" not in odd_text
    assert "\x1b" not in odd
    assert yaml.safe_load(plain_head).keys() == yaml.safe_load(odd_head).keys()


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

    chosen = len(compact(given)[FILE]) - rest

    assert chosen < 1.15 * (4 * kept + size * entropy / 8)
    if sparsity >= 0.95:
        assert chosen < 4 * kept + size / 8


@pytest.mark.parametrize("values", ["float16", "bfloat16"])
def test_values_may_be_rounded(values: str) -> None:
    """To half the bytes: each weight is the nearest number of that kind, pruned ones stay zero."""
    given = model(0.9)
    whole, files = compact(given), compact(given, values=values)
    result = read(files).state["a.weight"]

    assert len(files[FILE]) < 0.75 * len(whole[FILE])
    assert torch.equal(given.state["a.weight"].to(getattr(torch, values)).float(), result)


def stored(**changed: torch.Tensor | None) -> dict[str, bytes]:
    """A file of one tensor of six numbers, two of them kept, with parts changed or left out."""
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
        ({"w_shape": torch.tensor([2.0, 3.0])}, "is not a shape"),
        ({"w_shape": torch.tensor([-2, -3])}, "is not a shape"),
        ({"w_shape": torch.tensor([2**20, 2**20])}, "claims to hold more numbers"),
        ({"w_shape": torch.tensor([1, 3])}, "beyond its 3 places"),
        ({"w_values": None}, "has no values"),
        ({"w_values": torch.tensor([1.0])}, "has 1 values for 2 places"),
        ({"w_steps": None}, "does not say in one way"),
        ({"w_bits": torch.tensor([1], dtype=torch.uint8)}, "does not say in one way"),
        ({"w_steps": None, "w_bits": torch.tensor([1, 0], dtype=torch.uint8)}, "of each of its 6 places"),
        ({"w_steps": torch.tensor([1, 255], dtype=torch.uint8)}, "ends within a step"),
        ({"w_steps": torch.tensor([1, 2])}, "has no valid steps"),
        ({"w_steps": torch.tensor([[1, 2]], dtype=torch.uint8)}, "has no valid steps"),
    ],
)
def test_what_is_no_compact_model_is_refused(changed: dict[str, torch.Tensor | None], text: str) -> None:
    """With a sentence, before anything of the size that is claimed is made."""
    with pytest.raises(ValueError, match=text):
        read(stored(**changed))


class TwoInputs(torch.nn.Module):
    """Token ids and features, with two outputs; half of the hidden channels are dead."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.features = torch.nn.Embedding(20, 8), torch.nn.Linear(5, 8)
        self.hidden, self.head = torch.nn.Linear(8, 6), torch.nn.Linear(6, 3)

    def forward(self, tokens: torch.Tensor, *, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits, and the mean of the embeddings."""
        mean = self.words(tokens).mean(dim=1)
        return {"logits": self.head(torch.relu(self.hidden(mean + self.features(features)))), "mean": mean}


def test_a_network_of_several_inputs_has_no_dead_channels() -> None:
    """Channels are read through any inputs and outputs."""
    network = TwoInputs().eval()
    with torch.no_grad():
        network.hidden.weight[3:], network.hidden.bias[3:] = 0, -1
    inputs = {"tokens": torch.randint(0, 20, (4, 7)), "features": torch.randn(4, 5)}
    model = Model(network.state_dict(), {}, TwoInputs, inputs=inputs)
    smaller = fit("shrunk", exporters["shrunk"].facts["read"](exporters["shrunk"].function(model)), TwoInputs())

    assert (3, 8) == smaller.get_parameter("hidden.weight").shape
    assert same_outputs(network(**inputs), smaller(**inputs))
    assert not same_outputs(network(**inputs), {"logits": torch.zeros(4, 3)})
