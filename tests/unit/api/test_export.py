"""`export`: networks of any loop in formats that load, and refusals in one sentence."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

import autosparse
from autosparse import AutosparseError, Masks
from autosparse.api import Exported
from autosparse.api.checkpoint import load_checkpoint
from autosparse.api.example import Example
from autosparse.core.graph.shrink import shrink
from autosparse.errors import UsageError
from autosparse.exporters import Preprocessing, exporters
from autosparse.store import dump_tensors
from tests.unit.api.conftest import batches, checkered, network

IMAGES = batches(1, 4)[0][0]


def export(*given: Any, **options: Any) -> Any:
    """Export without latencies."""
    return autosparse.export(*given, **options, timed=False)


class Words(nn.Module):
    """Two inputs by name, of which one is optional, and several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight  # tied

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, labels: Tensor | None = None) -> dict[str, Any]:
        """Return logits and their mean."""
        hidden = self.embedding(tokens) if mask is None else self.embedding(tokens) * mask.unsqueeze(-1)
        logits = self.head(hidden.mean(dim=1))
        return {"logits": logits, "mean": [logits.mean(dim=1)]}


class Returns(nn.Module):
    """A network that returns anything."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 4), function

    def forward(self, x: Tensor) -> Any:
        """Return what the function makes of a linear layer's outputs."""
        return self.function(self.layer(x))


def outputs_of(model: nn.Module, masks: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the outputs in evaluation mode of a copy with masks applied."""
    state = {name: tensor * masks.get(name, torch.tensor(1)) for name, tensor in model.state_dict().items()}
    training = model.training
    with torch.no_grad():
        outputs: Tensor = torch.func.functional_call(model.eval(), state, (inputs,))
    model.train(training)
    return outputs


READ = [entry.name for entry in exporters if "read" in entry.facts and "fit" not in entry.facts]


@pytest.mark.parametrize("format", READ)
@pytest.mark.parametrize("masked", [True, False])
def test_a_model_comes_back_with_its_outputs(format: str, masked: bool, tmp_path: Path) -> None:
    """The model itself stays as it is, in training mode; the folder has the files of the card and no more."""
    model, state = network(), {name: tensor.clone() for name, tensor in network().state_dict().items()}
    masks = checkered(model) if masked else None
    exported = export(model, masks, tmp_path / "out", format=format, example=IMAGES, labels=[0, 1, 2, 0])
    loaded = autosparse.load(tmp_path / "out", network(seed=1))
    card = json.loads((tmp_path / "out" / "card.json").read_text())

    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(outputs_of(model, masks or {}, IMAGES), loaded(IMAGES), rtol=0, atol=0)
    assert (exported.path, exported.format, exported.max_abs_error) == (tmp_path / "out", format, 0)
    assert (132 if masked else 264, 264) == (exported.kept, exported.total)
    assert {"card.json", *card["files"]} == {file.name for file in exported.path.iterdir()}
    for name, about in card["files"].items():
        assert hashlib.sha256((exported.path / name).read_bytes()).hexdigest() == about["sha256"]
    assert card["accuracy"]["example_accuracy"] == exported.accuracy
    assert "torch.nn.modules.container.Sequential" == card["network_class"]
    assert str(exported).startswith(f"{exported.path}: {format}, ")


def test_a_card_has_names_and_preprocessing(tmp_path: Path) -> None:
    """Class names, the pixels' normalization, the input and the output, as a server needs them."""
    steps = {"size": [6, 6], "channels": None, "mean": [0.5, 0.4], "std": [0.2, 0.1]}
    export(
        network(), None, tmp_path / "out", format="hub", example=IMAGES, class_names=["a", "b", "c"],
        preprocessing=steps,
    )  # fmt: skip
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    text = (tmp_path / "out" / "README.md").read_text()

    assert ["a", "b", "c"] == card["classes"]
    assert {**card["images"], **steps} == card["images"]
    assert ("images", ["batch", 2, 6, 6]) == (card["inputs"][0]["name"], card["inputs"][0]["shape"])
    assert "`a`, `b`, `c`" in text
    assert "$" not in text


def test_several_formats_have_a_folder_each(tmp_path: Path) -> None:
    """Named as in a run; the folder appears whole."""
    every = export(
        network(), None, tmp_path / "new" / "out", format=["safetensors", {"name": "compact", "values": "float16"}],
        example=IMAGES,
    )  # fmt: skip

    assert ["safetensors", "compact-float16"] == [one.format for one in every]
    assert [tmp_path / "new" / "out" / one.format for one in every] == [one.path for one in every]
    assert 0 < every[1].max_abs_error < 1e-2


def test_inputs_by_name_and_tied_weights(tmp_path: Path) -> None:
    """Token ids and a mask, in any order; labels among them are left out; the tied weight is one."""
    model, tokens = Words(), torch.randint(0, 20, (3, 5))
    inputs = {"mask": torch.ones(3, 5), "tokens": tokens, "labels": torch.zeros(3, dtype=torch.long)}
    masks = {"head.weight": torch.rand(20, 8) < 0.5}
    export(model, masks, tmp_path / "out", format="compact", example=inputs)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    loaded = autosparse.load(tmp_path / "out", Words())

    assert ["tokens", "mask"] == [one["name"] for one in card["inputs"]]
    assert ["logits", "mean_0"] == [one["name"] for one in card["outputs"]]
    torch.testing.assert_close(loaded(tokens)["logits"], loaded(tokens, torch.ones(3, 5))["logits"])
    assert bool((loaded.get_parameter("embedding.weight")[~masks["head.weight"]] == 0).all())


def held(model: nn.Module) -> nn.Module:
    """Return a network with masks in force."""
    checkered(model).hold(torch.optim.SGD(model.parameters(), 0.1))
    return model


WRAPPED: dict[str, Callable[[Any], nn.Module]] = {
    "compiled": lambda model: cast(nn.Module, torch.compile(model)),
    "parallel": nn.DataParallel,
    "average": torch.optim.swa_utils.AveragedModel,
    "half": lambda model: model.half(),
    "frozen": lambda model: model.requires_grad_(False),
    "held": held,
}


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=pytest.mark.slow) if one == "compiled" else one for one in WRAPPED]
)
def test_wrapped_networks(kind: str, tmp_path: Path) -> None:
    """Compiled, parallel, averaged, in half precision, frozen, or with masks in force."""
    model = network()
    wrapped = WRAPPED[kind](model)
    exported = export(wrapped, checkered(network()), tmp_path / "out", format="safetensors", example=IMAGES.half())
    loaded = autosparse.load(tmp_path / "out", network())

    assert 132 == exported.kept
    assert all(one.dtype == torch.float32 for one in loaded.parameters())


def test_zeros_of_an_unmasked_network_count_as_pruned(tmp_path: Path) -> None:
    """Masks that were applied before need not be given again."""
    model = network()
    checkered(model).apply(model)
    exported = export(model, None, tmp_path / "a", format="compact", example=IMAGES)
    other = export(network(), checkered(network()), tmp_path / "b", format="compact", example=IMAGES)

    assert (exported.kept, exported.bytes, ()) == (other.kept, other.bytes, exported.notes)
    assert "masks zero 132 weights that are not zero in the model" in other.notes[0]


def test_masks_come_from_a_file(tmp_path: Path) -> None:
    """As `Masks.save` writes them."""
    checkered(network()).save(tmp_path / "masks.safetensors")

    exported = export(network(), tmp_path / "masks.safetensors", tmp_path / "out", format="compact", example=IMAGES)

    assert 132 == exported.kept


def test_a_network_of_one_batch_size(tmp_path: Path) -> None:
    """Formats that are no programs hold it, without latencies of other sizes."""
    model = Returns(lambda x: x.view(2, 4))
    exported = autosparse.export(model, None, tmp_path / "out", format="compact", example=torch.ones(2, 3))

    assert (0, {}) == (exported.max_abs_error, exported.speeds)


class Cache:
    """Something that is no tensor."""


def scripted() -> nn.Module:
    """Return a scripted network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop it
        return torch.jit.script(nn.Linear(3, 2))


STEPS = {"size": (6, 6), "channels": None, "mean": (0.5, 0.5), "std": (0.2, 0.2)}


def odd(**given: Any) -> dict[str, Any]:
    """Return arguments of `export` with some of them replaced."""
    return {"model": network(), "masks": None, "format": "safetensors", "example": IMAGES, **given}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (odd(format="onyx"), "must be a format but is 'onyx'"),
        (odd(format=[]), "format"),
        (odd(format={"name": "compact", "values": "int4"}), "'float16' or 'bfloat16' but is"),
        (odd(example=None), "`example` holds no tensor but is NoneType"),
        (odd(example=IMAGES[:0]), "`example` is an empty batch"),
        (odd(example=(IMAGES, torch.zeros(3))), r"has tensors of \[4, 2, 6, 6\], \[3\]"),
        (odd(example=(IMAGES, 3)), "`example` holds an int"),
        (odd(example=torch.zeros(4, 3, 6, 6)), "calling `Sequential` on `example` failed"),
        (odd(masks={"5.weight": torch.ones(2, 2, dtype=torch.bool)}), "the masks do not fit Sequential"),
        (odd(masks="absent.safetensors"), "cannot be read"),
        (odd(labels=[0, 1]), r"`labels` is torch.int64 \[2\], but the output is \[4, 3\]"),
        (odd(labels=[0, 1, 2, 3]), "`labels` are not from 0 to 2"),
        (odd(class_names=["a"]), r"`class_names` has 1 name, but the output is \[4, 3\]"),
        (odd(preprocessing={"size": [6, 6]}), "`preprocessing`: channels"),
        (
            odd(preprocessing={"size": [8, 8], "channels": None, "mean": [0.5], "std": [0.5]}),
            "gives images of 1 x 8 x 8, but the network takes 2 x 6 x 6",
        ),
        (odd(preprocessing={**STEPS, "interpolaton": "box"}), "`preprocessing` has no `interpolaton`"),
        (odd(preprocessing={**STEPS, "std": (0, 1)}), "`preprocessing`: std.0: Input should be greater than 0"),
        (odd(preprocessing=Preprocessing((6, 6), None, (0.5, float("nan")), (1, 1))), "`preprocessing`: mean.1"),
        (odd(preprocessing={**STEPS, "max_value": 0}), "`preprocessing`: max_value"),
        (odd(preprocessing={**STEPS, "channels": "RGB"}), "gives RGB pictures, but the network takes 2 channels"),
        (odd(preprocessing=5), "`preprocessing`: Input"),
        (odd(class_names="abc"), "`class_names` must be a list but is 'abc'"),
        (odd(class_names=["a", "b", "a"]), "`class_names` has `a` twice"),
        (odd(format=None), "`format` must be the name of a format"),
        (odd(format=5), "`format` must be"),
        (odd(format=["compact", "compact"]), "`format` has `compact` twice"),
        (odd(labels=["a"]), "`labels` are no numbers"),
        (odd(masks=[1]), "`masks` must be a mapping of tensors, a file or None but is list"),
        (odd(model="resnet"), "must be a torch.nn.Module"),
        (odd(model=nn.LazyLinear(3), example=torch.ones(2, 3)), "is lazy"),
        (odd(model=nn.Linear(3, 2, device="meta"), example=torch.ones(2, 3)), "meta device"),
        (odd(model=scripted(), example=torch.ones(2, 3)), "a scripted network has no other format"),
        (
            odd(model=Returns(lambda x: x.view(2, 4)), example=torch.ones(2, 3), format="onnx"),
            "has no onnx model, which takes any batch size: .* shape '.2, 4.' is invalid",
        ),
        (odd(model=Returns(lambda x: Cache()), example=torch.ones(2, 3)), "returns a Cache"),
        (odd(model=Returns(lambda x: None), example=torch.ones(2, 3)), "returns no tensor"),
        (odd(model=Returns(lambda x: x / 0 * 0), example=torch.ones(2, 3)), "returns NaN"),
    ],
)
def test_refusals_leave_nothing_behind(given: dict[str, Any], text: str, tmp_path: Path) -> None:
    """One sentence each, before any file."""
    with pytest.raises(AutosparseError, match=text) as refused:
        autosparse.export(**given, out=tmp_path / "out", timed=False)

    assert "\n" not in refused.value.message
    assert [] == [*tmp_path.iterdir()]


def test_an_occupied_folder_stays_as_it_is(tmp_path: Path) -> None:
    """No file of others is replaced."""
    (tmp_path / "mine.txt").write_text("kept")

    with pytest.raises(AutosparseError, match="holds something else"):
        export(network(), None, tmp_path, format="safetensors", example=IMAGES)
    assert ["mine.txt"] == [file.name for file in tmp_path.iterdir()]


class Forgets(nn.Linear):
    """A layer whose state does not load."""

    def _load_from_state_dict(self, *given: Any) -> None:
        pass


def test_another_model_after_a_reload_is_not_written(tmp_path: Path) -> None:
    """The copy that reads the files has no weights before, so that none can be missing."""
    with pytest.raises(AutosparseError, match="the compact model is not that of the network after a reload"):
        export(Forgets(3, 2), None, tmp_path / "out", format="compact", example=torch.ones(2, 3))
    assert [] == [*tmp_path.iterdir()]


@pytest.mark.slow
def test_random_outputs_are_explained(tmp_path: Path) -> None:
    """A dropout that ignores the mode draws other numbers in another process."""
    model = Returns(lambda x: nn.functional.dropout(x, 0.5))

    with pytest.raises(AutosparseError) as refused:
        export(model, None, tmp_path / "out", format="pt2", example=torch.ones(8, 3))

    assert "random numbers in evaluation mode" in str(refused.value.hint)


def test_a_card_without_a_factory_needs_a_network(tmp_path: Path) -> None:
    """`load` builds no class of a card."""
    export(Words(), None, tmp_path / "out", format="safetensors", example=torch.zeros(2, 4, dtype=torch.long))

    with pytest.raises(
        AutosparseError, match=r"names no factory of its network, only the class `tests.unit.api.test_export.Words`"
    ):
        autosparse.load(tmp_path / "out")


STATE = network().state_dict()
ENDLESS: dict[str, Any] = {}
ENDLESS["model"] = ENDLESS
PREFIXED = {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "saved",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": PREFIXED},
        {f"net.{name}": tensor for name, tensor in STATE.items()},
        torch.optim.swa_utils.AveragedModel(network()).state_dict(),
        {"model_state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()}},
    ],
)
def test_checkpoints_of_other_loops(saved: dict[str, Any], tmp_path: Path) -> None:
    """Alone or nested, under the prefixes of DDP, compile and Lightning."""
    torch.save(saved, tmp_path / "saved.pt")
    model = network(seed=1)
    load_checkpoint(model, tmp_path / "saved.pt")

    assert all(torch.equal(tensor, STATE[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_of_safetensors(tmp_path: Path) -> None:
    """It may hold tied weights once."""
    model, other = Words(), Words()
    (tmp_path / "saved.safetensors").write_bytes(dump_tensors({"head.weight": model.head.weight}))
    load_checkpoint(other, tmp_path / "saved.safetensors")

    assert torch.equal(model.head.weight, other.embedding.weight)


@pytest.mark.parametrize(
    ("saved", "text"),
    [
        ({k: v for k, v in STATE.items() if k != "5.bias"}, "another network: `5.bias` is not in the file"),
        ({**STATE, "6.bias": torch.ones(1)}, "`6.bias` is not of the network"),
        ({**STATE, "5.bias": torch.ones(4)}, r"`5.bias` is \[4\] in the file and \[3\] in the network"),
        ({"epoch": 3}, "holds no named tensors"),
        (ENDLESS, "holds no named tensors"),
        ({**STATE, "5.bias": torch.ones(3).to_sparse()}, "`5.bias` is no dense tensor with numbers"),
        (network(), "holds pickled code, which is never run"),
        (b"nothing", "or damaged"),
        (None, "cannot be read"),
    ],
)
def test_other_checkpoints(saved: Any, text: str, tmp_path: Path) -> None:
    """One sentence that names the first tensor; pickled code never runs."""
    file = tmp_path / "saved.pt"
    if isinstance(saved, bytes):
        file.write_bytes(saved)
    elif saved is not None:
        torch.save(saved, file)

    with pytest.raises(AutosparseError, match=text) as refused:
        load_checkpoint(network(), file)
    assert "\n" not in refused.value.message


def test_the_result_is_small_and_frozen() -> None:
    """It prints in lines."""
    one = Exported(Path("out"), "onnx", 2000, 4000, 1, 2, 0.0, 0.0, 50.0, {}, ("dead channels remain",))

    assert str(one).splitlines() == [
        "out: onnx, 2 kB (dense 4 kB)",
        "  1 of 2 weights kept, max abs error 0, accuracy 50.00 %",
        "  note: dead channels remain",
    ]
    with pytest.raises(AttributeError):
        one.bytes = 3  # type: ignore[misc]


def test_masks_of_the_caller_keep_their_model(tmp_path: Path) -> None:
    """`export` applies them to a copy."""
    model = network()
    masks = Masks(checkered(model), model=model)
    export(model, masks, tmp_path / "out", format="safetensors", example=IMAGES)

    masks.hold(torch.optim.SGD(model.parameters(), 0.1))
    assert bool((model[5].weight == 0).any())  # type: ignore[union-attr]


class InPlace(nn.Linear):
    """A layer that changes its input, and has a causal mask."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.register_buffer("causal", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("ones", torch.ones(1).expand(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs for twice the input."""
        return super().forward(x.mul_(2))


def test_inputs_changed_in_place_and_infinite_buffers(tmp_path: Path) -> None:
    """Each call has the same inputs; infinities are damage only in pruned weights."""
    model = InPlace()
    exported = export(model, None, tmp_path / "out", format="compact", example=torch.ones(2, 3), class_names=[1, 2, 3])
    other = InPlace()
    other.ones = torch.ones(3)
    loaded = autosparse.load(tmp_path / "out", other)

    assert 0 == exported.max_abs_error
    assert torch.equal(model.get_buffer("causal"), loaded.get_buffer("causal"))
    assert ["1", "2", "3"] == json.loads((tmp_path / "out" / "card.json").read_text())["classes"]


class Point(NamedTuple):
    """Outputs with names."""

    x: Tensor
    others: list[Tensor]


class Shares(nn.Module):
    """Names of inputs, parameters, operations and outputs that are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

    def forward(self, scale: Tensor, b: Tensor) -> dict[str, Any]:
        """Return several outputs."""
        print("called")  # noqa: T201
        linear = torch.relu(self.layer(scale)) * self.scale + b
        return {"linear": linear, "b": linear + 1, "relu": Point(linear * 2, [linear * 3]), "relu_0": linear * 4}


def test_names_of_tensors_are_unique(capsys: pytest.CaptureFixture[str]) -> None:
    """Over inputs, state and outputs; what a network prints is no result."""
    example = Example.of(Shares().eval(), (torch.ones(2, 3), torch.ones(2, 3)))

    assert ("scale_input", "b") == example.input_names
    assert ("linear", "b_output", "relu_0", "relu_1_0", "relu_0_output") == example.output_names
    assert "" == capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_equal_names_in_programs(format: str, tmp_path: Path) -> None:
    """ONNX has one namespace; programs hold no class of the user."""
    inputs = Point(torch.ones(2, 3), [torch.ones(2, 3)])
    example = (inputs.x, inputs.others[0])
    exported = export(Shares(), None, tmp_path / format, format=format, example=example)

    assert exported.max_rel_error < 1e-4


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x: (x, x.sum()), [("batch", 4), ()]),
        (lambda x: x[None], [(1, "batch", 4)]),
        (lambda x: x @ x.T, [("batch", "batch")]),
        (lambda x: torch.cat([x, x]), [("depends on batch", 4)]),
        (lambda x: x.view(4, 4), [("batch", 4)]),
        (lambda x: x.squeeze(), [("batch", 4)]),
    ],
)
def test_shapes_of_outputs(function: Callable[[Tensor], Any], shapes: list[Any]) -> None:
    """Only sides that follow the batch are the batch."""
    assert shapes == [*Example.of(Returns(function), torch.ones(4, 3)).shapes]


def test_only_classifiers_have_numbered_classes(tmp_path: Path) -> None:
    """Outputs of images without names, labels or preprocessing may be anything, such as embeddings."""
    cards = []
    for name, labels in (("a", None), ("b", [0, 1, 2, 0])):
        export(network(), None, tmp_path / name, format="compact", example=IMAGES, labels=labels)
        cards.append(json.loads((tmp_path / name / "card.json").read_text()))

    assert (False, []) == ("task" in cards[0], cards[0]["classes"])
    assert ("image-classification", ["0", "1", "2"]) == (cards[1]["task"], cards[1]["classes"])


@pytest.mark.parametrize(("out", "text"), [(".", ". is the working directory"), (5, "`out` must be a path but is 5")])
def test_folders_that_no_export_can_be(out: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is not even called."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=text):
        export(network(), None, out, format="compact", example=IMAGES)
    assert [] == [*tmp_path.iterdir()]


class Keywords(nn.Linear):
    """A layer that takes any argument by name."""

    def forward(self, **inputs: Tensor) -> Tensor:  # type: ignore[override]
        """Return the outputs for `x`."""
        return super().forward(inputs["x"])


def test_arguments_without_names_have_no_program(tmp_path: Path) -> None:
    """The message says how to change the code."""
    with pytest.raises(AutosparseError, match=r"takes `x` in `.*`; name that argument in `forward`"):
        export(Keywords(3, 2), None, tmp_path / "out", format="pt2", example={"x": torch.ones(2, 3)})


@pytest.mark.slow
def test_tensors_that_no_onnx_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protobuf has 2 GB."""
    monkeypatch.setattr("autosparse.exporters.shrunk._LARGEST_ONNX", 10)

    with pytest.raises(AutosparseError, match="are larger than the 2 GB of an ONNX file"):
        export(network(), None, tmp_path / "out", format="onnx", example=IMAGES)


def test_formats_share_the_smaller_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed once."""
    counted = Mock(wraps=shrink)
    monkeypatch.setattr("autosparse.exporters.shrunk.without_dead", counted)
    export(network(), checkered(network()), tmp_path / "out", format=["shrunk", "sparse"], example=IMAGES)

    assert 1 == counted.call_count
