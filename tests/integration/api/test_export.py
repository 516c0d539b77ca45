"""Exported networks in the programs of their formats: torchvision's, timm's and others, at any batch size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import autosparse
from autosparse.exporters import exporters
from autosparse.models import build_model
from tests.conftest import Workspace, call


class UNet(nn.Module):
    """Two scales with a skip connection; an output for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, `[batch, 4, height, width]`."""
        skip = torch.relu(self.down(x))
        deep = torch.relu(self.deep(nn.functional.max_pool2d(skip, 2)))
        return self.head(torch.cat([skip, self.up(deep)], dim=1))  # type: ignore[no-any-return]


class Text(nn.Module):
    """Transformer of token ids with a padding mask; outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.embedding = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)  # zeroes padded positions
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return logits, `[batch, 3]`, and the hidden values."""
        hidden = self.encoder(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0)
        return {"logits": self.head(hidden[:, 0]), "hidden": hidden}


class Tied(nn.Module):
    """Residual network of which two convolutions share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.second, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, `[batch, 5]`."""
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.first(x))
        x = torch.relu(x + self.second(x))
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Network of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(20, 16), nn.Linear(16, 5)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, `[batch, 5]`."""
        return self.head(torch.relu(self.hidden(features)))  # type: ignore[no-any-return]


def torchvision_network() -> nn.Module:
    """Return a small network of torchvision."""
    import torchvision

    return torchvision.models.shufflenet_v2_x0_5(num_classes=10)  # type: ignore[no-any-return]


def timm_network() -> nn.Module:
    """Return a small network of timm."""
    import timm

    return timm.create_model("resnet10t", num_classes=10, in_chans=3)


def images(count: int, side: int = 32) -> Tensor:
    """Return random images."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def tokens(count: int) -> dict[str, Tensor]:
    """Return random token ids with padding."""
    random = torch.Generator().manual_seed(count)
    mask = torch.ones(count, 7, dtype=torch.long)
    mask[: count // 2, 4:] = 0
    return {"input_ids": torch.randint(0, 50, (count, 7), generator=random), "attention_mask": mask}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "mlp": (MLP, lambda count: torch.randn(count, 20, generator=torch.Generator().manual_seed(count))),
    "tied": (Tied, lambda count: images(count, 8)),
    "unet": (UNet, lambda count: images(count, 8)),
    "text": (Text, tokens),
    "torchvision": (torchvision_network, images),
    "timm": (timm_network, images),
}


def trained(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with weights as after a training: normalizations have seen data."""
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def half_masked(model: nn.Module) -> autosparse.Masks:
    """Return masks without half of the weights and without a quarter of the channels of each layer."""
    random = torch.Generator().manual_seed(1)
    kept = {}
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "embedding" not in name:
            rows = torch.rand(len(weight), *[1] * (weight.ndim - 1), generator=random) < 0.75
            kept[name] = (torch.rand(weight.shape, generator=random) < 0.5) & rows
    return autosparse.Masks(kept)


def flat(outputs: Any) -> list[Tensor]:
    """Return the tensors of outputs."""
    return [*outputs.values()] if isinstance(outputs, dict) else [outputs]


def called(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return a network's outputs in evaluation mode."""
    with torch.no_grad():
        return flat(model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(inputs))


FAST = ("mlp", "onnx", True)
MATRIX = [(name, format, masked) for name in NETWORKS for format in ("onnx", "pt2") for masked in (True, False)]


@pytest.mark.parametrize(
    ("name", "format", "masked"),
    [one if one == FAST else pytest.param(*one, marks=pytest.mark.slow) for one in MATRIX],
)
def test_programs_take_any_batch(name: str, format: str, masked: bool, tmp_path: Path) -> None:
    """Outputs for 1, 7 and 32 examples are equal to 1e-4 of the largest."""
    build, example = NETWORKS[name]
    model = trained(build)
    masks = half_masked(model) if masked else None
    exported = autosparse.export(model, masks, tmp_path / "out", format=format, example=example(3), timed=False)
    if masks is not None:
        masks.apply(model)
    if format == "onnx":
        session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
        names = [one.name for one in session.get_inputs()]
    else:
        program = torch.export.load(tmp_path / "out" / "model.pt2").module()

    assert exported.max_rel_error <= 1e-4
    for count in (1, 7, 32):
        inputs = example(count)
        given = inputs if isinstance(inputs, dict) else {"": inputs}
        if format == "onnx":
            fed = {one: given.get(one, next(iter(given.values()))).numpy() for one in names}
            outputs = [torch.from_numpy(array) for array in session.run(None, fed)]
        else:
            outputs = flat(program(**inputs) if isinstance(inputs, dict) else program(inputs))
        for expected, actual in zip(called(model, inputs), outputs, strict=True):
            assert expected.shape == actual.shape
            assert float((expected - actual).detach().abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in NETWORKS if one != "torchvision"])  # in `test_programs_take_any_batch`
def test_every_format_has_every_network(name: str, tmp_path: Path) -> None:
    """Verified and timed; the formats of autosparse load into a network of other weights."""
    build, example = NETWORKS[name]
    model, formats = trained(build), [one for one in exporters.names if one != "pt2"]
    timed = name not in ("torchvision", "timm")  # their dense networks take long to export
    every = autosparse.export(
        model, half_masked(model), tmp_path / "out", format=formats, example=example(4), timed=timed
    )
    half_masked(model).apply(model)

    assert formats == [one.format for one in every]
    for one in every:
        assert ({"1", "32"} if timed else set()) == one.speeds.keys()
        if "read" in exporters[one.format].facts:
            (expected, *_), (actual, *_) = (
                called(model, example(7)),
                called(autosparse.load(one.path, build()), example(7)),
            )
            assert float((expected - actual).detach().abs().max()) <= 1e-4 * float(expected.abs().max())
        else:
            assert "onnx" == one.format


def hugging_face_network() -> nn.Module:
    """Return a small network of transformers, whose outputs are of a class of that library."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return BertForSequenceClassification(config)


@pytest.mark.slow
def test_programs_return_plain_dictionaries(tmp_path: Path) -> None:
    """The process that opens them has no transformers."""
    autosparse.export(hugging_face_network(), None, tmp_path / "out", format="pt2", example=tokens(2), timed=False)
    outputs = torch.export.load(tmp_path / "out" / "model.pt2").module()(**tokens(5))

    assert (dict, (5, 2)) == (type(outputs), tuple(outputs["logits"].shape))


def build_net(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network of the command's tests."""
    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, classes))


@pytest.fixture
def saved(here: Workspace) -> Workspace:
    """A directory with a checkpoint, its masks, and the code of its network."""
    torch.manual_seed(0)
    model = build_net((1, 8, 8), 10)
    masks = {"0.weight": torch.rand(4, 1, 3, 3) < 0.5, "3.weight": torch.rand(10, 144) < 0.1}
    autosparse.Masks(masks).save(here.folder / "masks.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, here.folder / "net.pt")
    (here.folder / "nets.py").write_text(
        "from torch import nn\n\n\ndef build(shape, classes):\n"
        "    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, classes))\n"
    )
    (here.folder / "net.yaml").write_text(
        "version: 1\nmodel: nets.py:build\ndataset: digits\nbudget: 0.9\nmethod: snip\n"
    )
    return here


def test_a_checkpoint_of_a_model_by_name(saved: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Its shape and classes are given; `inspect` describes the result."""
    ended = call(
        capsys,
        "export --checkpoint net.pt --model nets.py:build --shape 1x8x8 --classes 10 --masks masks.safetensors "
        "--format compact --out served --json",
    )
    (model,) = json.loads(ended.out)["emitted"]
    described = json.loads(call(capsys, "inspect served --json").out)

    assert 0 == ended.code, ended.err
    assert (str(saved.folder / "served"), "compact", 0.0) == (model["path"], model["format"], model["max_abs_error"])
    assert (model["kept"], model["total"]) == (described["kept"], described["total"])
    assert "torch.nn.modules.container.Sequential" == described["network"]
    assert 0 == call(capsys, "inspect served").code


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "'{name: onnx, quantize: int8}'"])
def test_a_checkpoint_of_a_spec(saved: Workspace, capsys: pytest.CaptureFixture[str], format: str) -> None:
    """Its dataset gives classes, preprocessing, images of a calibration and the accuracy; onnxruntime opens it."""
    ended = call(capsys, f"export --checkpoint net.pt --model net.yaml --format {format} --out served")
    assert 0 == ended.code, ended.err
    card = json.loads((saved.folder / "served" / "card.json").read_text())
    session = onnxruntime.InferenceSession(saved.folder / "served" / "model.onnx")

    assert [str(number) for number in range(10)] == card["classes"]
    assert ([8, 8], "L") == (card["images"]["size"], card["images"]["channels"])
    assert card["accuracy"]["examples"] > 100
    assert (saved.folder / "served" / "predict.py").exists()
    assert (7, 10) == session.run(["logits"], {"images": numpy.zeros((7, 1, 8, 8), numpy.float32)})[0].shape


@pytest.mark.slow
def test_a_checkpoint_of_a_spec_with_trained_weights(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are those of the checkpoint, not those that its training began with."""
    model = build_model("lenet", {}, (1, 8, 8), 10)
    torch.save(model.state_dict(), here.folder / "start.pt")
    torch.save({name: part + 1 for name, part in model.state_dict().items()}, here.folder / "net.pt")
    (here.folder / "random.py").write_text("raise SystemExit('imported')\n")  # of the user, but named as Python's
    (here.folder / "net.yaml").write_text(
        "version: 1\nmodel: {name: lenet, initialization: {file: start.pt}}\n"
        "dataset: digits\nbudget: 0.9\nmethod: snip\n"
    )
    ended = call(capsys, "export --checkpoint net.pt --model net.yaml --format pt2 --out served")

    assert 0 == ended.code, ended.err
    assert (here.folder / "served" / "model.pt2").exists()


BY_NAME = "--checkpoint net.pt --model nets.py:build --shape 1x8x8 --classes 10 --out served"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("--checkpoint net.pt --out served", "the export of a checkpoint needs `--model SPEC`"),
        ("--checkpoint net.pt --model nets.py:build --shape 1x8x8 --classes 10", "needs `--out DIR`"),
        ("--masks masks.safetensors", "needs `--checkpoint FILE`"),
        (f"{BY_NAME} --method snip", "a checkpoint has no `--method`"),
        ("--checkpoint net.pt --model nets.py:build --out served", "names a network without images"),
        (BY_NAME.replace("1x8x8", "1x8"), "`--shape 1x8` is not a shape"),
        (
            BY_NAME.replace("10", "7"),
            "`3.weight` is [10, 144] in the file and [7, 144] in the network",
        ),
        (BY_NAME.replace("net.pt", "nets.py"), "nets.py is neither a safetensors nor a PyTorch file, or damaged"),
        (BY_NAME.replace("--classes 10", "--classes -3"), "`--classes -3` is not a number of classes"),
        (BY_NAME.replace("nets.py:build", "resnet21"), "there is no model `resnet21`"),
        (BY_NAME.replace("served", "."), ". holds something else"),
        (f"{BY_NAME} --format onyx", "there is no format `onyx`"),
        (f"{BY_NAME} --masks net.pt", "is damaged or not a file of masks"),
        (f"{BY_NAME} --format '{{name: onnx, quantize: int8}}'", "`quantize: int8` is calibrated on training images"),
    ],
)
def test_what_a_checkpoint_does_not_have(
    saved: Workspace, capsys: pytest.CaptureFixture[str], asked: str, text: str
) -> None:
    """Exit 2, one sentence, and no folder."""
    ended = call(capsys, f"export {asked}")

    assert (2, True) == (ended.code, text in ended.err), ended.err
    assert not (saved.folder / "served").exists()
