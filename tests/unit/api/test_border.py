"""Networks, loaders and arguments of all forms: one conformance test a form, over every method."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import autosparse
from autosparse.errors import OwnCodeError, UsageError
from tests.unit.api.conftest import METHODS, batches, in_brief, network

WAYS = [*map(in_brief, METHODS), "learned"]
TEMPERED = ("grasp-one_shot", "hutchinson-one_shot")


def name_of(method: Any) -> str:
    """A method's name as a test's."""
    return method if isinstance(method, str) else f"{method['criterion']}-{method['schedule']['name']}"


every_method = pytest.mark.parametrize("method", WAYS, ids=name_of)


def small() -> list[tuple[Tensor, Tensor]]:
    """Batches of images with three channels."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(24, 3, 8, 8, generator=generator), torch.randint(0, 5, (24,), generator=generator)
    return [*zip(x.split(8), y.split(8), strict=True)]


class Checkpointed(nn.Module):
    """Two blocks with dropout, run again in the backward pass if so asked."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2))
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Hardsigmoid())
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.stem(x)
        for block in (self.first, self.second):
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        output: Tensor = self.head(x.mean((2, 3)))
        return output


@every_method
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_no_mask(method: Any, reentrant: bool) -> None:
    """A network that recomputes activations in the backward pass has the masks of one that keeps them."""
    torch.manual_seed(0)
    plain = Checkpointed(None)
    again = Checkpointed(reentrant)
    again.load_state_dict(plain.state_dict())

    expected, masks = (autosparse.prune(model, small(), 0.7, method=method) for model in (plain, again))

    assert expected == masks
    assert expected.examine(small()[0][0]) == masks.examine(small()[0][0])


class Casts(nn.Module):
    """Casts its input and makes float32 tensors in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = torch.ones(3, 1, 3, 3) / 9  # no buffer
        self.stem = nn.Conv2d(3, 6, 3)
        self.state = nn.LSTM(24, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = nn.functional.conv2d(x.float(), self.filter, groups=3)
        x = torch.tanh(self.stem(x)).permute(0, 3, 1, 2).flatten(2)
        zero = torch.zeros(1, len(x), 8, dtype=torch.float32)
        x = self.state(x, (zero, zero.clone()))[0][:, -1] + torch.eye(8).sum(0)
        output: Tensor = self.head(x)
        return output


@every_method
def test_tensors_that_a_network_makes_itself(method: Any) -> None:
    """Casts and constants inside a forward pass stop no method and no diagnosis, and bring no note."""
    model = Casts()

    masks = autosparse.prune(model, small(), 0.5, method=method)

    assert round(0.5 * masks.total) == masks.kept
    assert () == masks.examine(small()[0][0])


def test_a_cast_network_has_the_paths_of_one_without() -> None:
    """SynFlow's scores of a network that casts its input are those of the same network without the cast."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))

    class Cast(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            output: Tensor = nn.Sequential.forward(self, input.to(torch.float32))  # type: ignore[no-untyped-call]
            return output

    expected, result = (
        autosparse.score(one, small(), criterion="synflow") for one in (model, Cast(*copy.deepcopy(model)))
    )

    assert all(torch.equal(expected[name], result[name]) for name in expected)


class OnlyFloat32(torch.autograd.Function):
    """An operation as an extension in C++ has it: for float32 alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Twice the input."""
        if x.dtype != torch.float32:
            raise RuntimeError("expected float32")
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradient: Any) -> Any:
        """Twice the gradient."""
        return 2 * gradient[0]


class InFloat32(nn.Module):
    """A network that runs in no other precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.head(OnlyFloat32.apply(torch.relu(self.first(x.flatten(1)))))
        return output


def test_a_network_that_runs_in_float32_alone() -> None:
    """Paths are followed in float32 where float64 fails, and one warning says so."""
    with pytest.warns(autosparse.AutosparseWarning, match="does not run in float64") as caught:
        masks = autosparse.prune(InFloat32(), small(), 0.5, method=in_brief("synflow"))

    assert [__file__] == [warning.filename for warning in caught]
    assert round(0.5 * masks.total) == masks.kept


@pytest.mark.parametrize("method", WAYS, ids=name_of)
def test_a_loader_gives_the_masks_of_a_list(method: Any) -> None:
    """Draws of a loader do not change dropout: it gives the masks of the same batches in a list."""
    x, y = (torch.cat(parts) for parts in zip(*batches(3), strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=8)

    expected = autosparse.prune(network(), [*loader], 0.6, method=method)

    assert expected == autosparse.prune(network(), loader, 0.6, method=method)


class Draws(nn.Module):
    """Noise from the generator of one of three libraries."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        self.first, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        draws = {"random": random.random, "numpy": numpy.random.rand, "torch": lambda: float(torch.rand(()))}
        x = torch.relu(self.first(x.flatten(1))) * (0.5 + float(draws[self.by]()))
        output: Tensor = self.head(x)
        return output


@pytest.mark.parametrize("by", ["random", "numpy", "torch"])
@every_method
def test_a_seed_decides_what_networks_draw(method: Any, by: str) -> None:
    """A network that draws by itself has the same masks at a seed, and leaves the caller's generators as they were."""
    model = Draws(by)
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    shuffled = DataLoader(TensorDataset(*map(torch.cat, zip(*small(), strict=True))), batch_size=8, shuffle=True)

    first = autosparse.prune(model, shuffled, 0.6, method=method, seed=3)
    after = random.random(), float(numpy.random.rand()), float(torch.rand(()))
    second = autosparse.prune(model, shuffled, 0.6, method=method, seed=3)

    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    assert first == second
    assert (random.random(), float(numpy.random.rand()), float(torch.rand(()))) == after


@every_method
def test_a_last_batch_of_one(method: Any) -> None:
    """A loader's last batch of a single example, of which BatchNorm has no statistics, stops no method."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 3))
    x, y = torch.rand(17, 2, 6, 6), torch.randint(0, 3, (17,))

    masks = autosparse.prune(model, DataLoader(TensorDataset(x, y), batch_size=8), 0.8, method=method)

    assert round(0.2 * masks.total) == masks.kept


@pytest.mark.parametrize("how", ["attribute", "list", "mapping", "deep", "object"])
def test_activations_that_a_module_keeps(how: str) -> None:
    """A module may keep the last activations, in whatever container: its copy has their values."""

    class Bag:
        pass

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(192, 8), nn.Linear(8, 5)
            self.kept: Any = None

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.first(x.flatten(1)))
            bag: Any = Bag()
            bag.h = h
            forms = {"attribute": h, "list": [h], "mapping": {"h": h}, "deep": [({"h": [h, h]},)], "object": bag}
            self.kept = forms[how]
            output: Tensor = self.head(h)
            return output

    model = Keeps()
    model(small()[0][0])

    assert 0 < autosparse.prune(model, small(), 0.5, method="snip").kept


@pytest.mark.parametrize("number", [numpy.float32, numpy.float64, torch.tensor, float])
def test_numbers_of_other_libraries(number: Any) -> None:
    """numpy's and torch's numbers are numbers, wherever one may stand."""
    whole = numpy.int64 if number in (numpy.float32, numpy.float64) else torch.tensor if number is torch.tensor else int
    method = {"preset": "mask_search", "schedule": {"name": "search", "steps": whole(3), "score_lr": number(0.0625)}}
    expected = {"preset": "mask_search", "schedule": {"name": "search", "steps": 3, "score_lr": 0.0625}}

    seed: Any = whole(2)

    masks = autosparse.prune(network(), batches(), number(0.75), method=method, seed=seed)

    assert autosparse.prune(network(), batches(), 0.75, method=expected, seed=2) == masks
    autosparse.score(network(), batches(), criterion="snip", images=whole(8), seed=seed)


class Detector(nn.Module):
    """Takes a list of images of different sizes, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, images: list[Tensor], targets: Any = None) -> Tensor:
        """Logits."""
        if not isinstance(images, list):
            raise TypeError("expected a list of images")
        return torch.stack([self.head(torch.relu(self.stem(image)).mean((1, 2))) for image in images])


@every_method
def test_lists_of_images(method: Any) -> None:
    """A list that a network takes as one argument is not unpacked, and its entries are the examples."""
    data = [([torch.rand(3, 8, 8), torch.rand(3, 9, 7)], torch.tensor([0, 1])) for _ in range(3)]

    masks = autosparse.prune(Detector(), data, 0.5, method=method)

    assert round(0.5 * masks.total) == masks.kept
    assert () == masks.examine(data[0][0])


@every_method
def test_inputs_that_a_loader_collated_to_a_list(method: Any) -> None:
    """A loader makes lists of a dataset's tuples: they go in by position where the network takes several."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 5)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            output: Tensor = self.head(torch.tanh(self.first(a) + self.second(b)))
            return output

    rows: Any = [((torch.rand(4), torch.rand(3)), number % 5) for number in range(16)]

    masks = autosparse.prune(Sum(), DataLoader(rows, batch_size=8), 0.5, method=method)

    assert round(0.5 * masks.total) == masks.kept


class ByName(nn.Module):
    """As Hugging Face's models: inputs by name, a loss where labels are given, outputs in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor | None]:
        """Logits, and the loss."""
        logits = self.head(torch.relu(self.first(pixel_values.flatten(1))))
        return {"loss": None if labels is None else nn.functional.cross_entropy(logits, labels), "logits": logits}


# These divide logits by a temperature, which a loss of the network's has none of.
@pytest.mark.parametrize("method", [way for way in WAYS if name_of(way) not in TEMPERED], ids=name_of)
def test_batches_that_are_mappings(method: Any) -> None:
    """Batches by name, with labels among the inputs, give the masks of pairs of tensors."""
    model = ByName()
    named = [{"pixel_values": x, "labels": y} for x, y in small()]
    paired = [({"pixel_values": x, "labels": y}, None) for x, y in small()]

    expected = autosparse.prune(model, [({"pixel_values": x}, y) for x, y in small()], 0.5, method=method)

    assert expected == autosparse.prune(model, named, 0.5, method=method)
    assert expected == autosparse.prune(model, paired, 0.5, method=method, loss=lambda outputs, _: outputs["loss"])


def test_mappings_of_one_image() -> None:
    """The one input of a mapping goes in by position where the network calls it otherwise."""
    named = [{"img": x, "label": y} for x, y in small()]
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5))

    assert autosparse.prune(model, small(), 0.5, method="snip") == autosparse.prune(model, named, 0.5, method="snip")
    with pytest.raises(UsageError, match="the batches have no labels"):
        autosparse.prune(model, [{"img": small()[0][0]}], 0.5, method="snip")


class Text(nn.Module):
    """Words, their positions and a mask, all whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 8, padding_idx=0), nn.Embedding(6, 8)
        self.norm, self.hidden, self.head = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        x = self.norm(self.words(tokens) + self.places(torch.arange(tokens.shape[1])))
        x = torch.relu(self.hidden(x)) * mask[..., None]
        output: Tensor = self.head(x.sum(1) / mask.sum(1, keepdim=True))
        return output


@every_method
def test_tokens(method: Any) -> None:
    """Inputs of whole numbers serve every method and `examine`."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (16, 6), generator=generator)
    data = [((tokens, torch.ones_like(tokens)), torch.randint(0, 5, (16,), generator=generator))]

    masks = autosparse.prune(Text(), data, 0.5, method=method)

    assert {"hidden.weight", "head.weight"} == set(masks)
    assert round(0.5 * masks.total) == masks.kept
    assert all(finding.kind in ("outputs", "dead") for finding in masks.examine(data[0][0]))


class EncoderDecoder(nn.Module):
    """A decoder whose inputs are the shifted labels, unless they are given, as in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.encoder, self.decoder, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 50)

    def forward(
        self, input_ids: Tensor, decoder_input_ids: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits of every label, and the loss if labels are given."""
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("decoder_input_ids or labels must be given")
            decoder_input_ids = labels.roll(1, dims=1)
        memory = torch.relu(self.encoder(self.words(input_ids))).mean(1, keepdim=True)
        logits: Tensor = self.head(torch.relu(self.decoder(self.words(decoder_input_ids) + memory)))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


@pytest.mark.parametrize("method", ["learned", "snip", "synflow", "prospr"])
def test_labels_that_the_decoder_needs(method: Any) -> None:
    """Labels stay among the inputs of a network that does not run without them."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (16, 6), generator=generator)
    data = [{"input_ids": tokens, "labels": tokens}]

    masks = autosparse.prune(EncoderDecoder(), data, 0.5, method=method, loss=lambda outputs, labels: outputs["loss"])

    assert {"encoder.weight", "decoder.weight", "head.weight"} == set(masks)
    assert round(0.5 * masks.total) == masks.kept


@every_method
def test_errors_of_a_network_are_one_line(method: Any) -> None:
    """Whatever a network raises in whatever phase becomes one line with its file and line number."""

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 5)

        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no such key")

    if isinstance(method, dict) and method["criterion"] in ("random", "magnitude") and len(method["schedule"]) == 1:
        pytest.skip("runs no forward pass")
    with pytest.raises(OwnCodeError, match=r"test_border\.py:\d+: calling `Broken` failed: KeyError: 'no such key'"):
        autosparse.prune(Broken(), small(), 0.5, method=method)


def test_errors_of_a_dataset_and_of_a_loss_are_one_line() -> None:
    """So do errors of datasets and of losses."""

    class Broken(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, number: int) -> Any:
            raise OSError("cannot read")

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(OwnCodeError, match=r"test_border\.py:\d+: reading `batches` failed: OSError: cannot read"):
        autosparse.prune(network(), DataLoader(Broken()), 0.5, method="snip")
    with pytest.raises(OwnCodeError, match=r"test_border\.py:\d+: the loss failed: ZeroDivisionError"):
        autosparse.prune(network(), batches(), 0.5, method="snip", loss=loss)
