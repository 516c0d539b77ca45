"""Quantized ONNX models of networks of any kind, by a loop's export and by a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import autosparse
from autosparse.errors import AutosparseError, UsageError
from tests.conftest import Workspace

SPEC = """
version: 1
model: resnet8
dataset: digits
budget: [0.5]
target: {device: cpu, threads: 1}
method: snip
compare: []
controls: []
training: {epochs: 2, flip: false, precision: float32}
emit: [onnx, {name: onnx, quantize: int8}, {name: onnx, quantize: dynamic}]
"""
INT8, DYNAMIC = {"name": "onnx", "quantize": "int8"}, {"name": "onnx", "quantize": "dynamic"}


class Sums(nn.Module):
    """Two inputs by name and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 16), nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return scores and the hidden layer."""
        hidden = torch.relu(self.first(x) + self.second(y))
        return {"scores": self.head(hidden), "hidden": hidden}


class Words(nn.Module):
    """Tokens as int64, and an embedding tied to the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(50, 16), nn.Linear(16, 16), nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of all words."""
        logits: Tensor = self.head(torch.relu(self.layer(self.embedding(tokens))).mean(dim=1))
        return logits


class Sentences(nn.Module):
    """A transformer's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 3)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of three classes."""
        scores: Tensor = self.head(self.encoder(self.embedding(tokens)).mean(dim=1))
        return scores


def images() -> nn.Module:
    """A network with a depthwise convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


TOKENS = torch.arange(128 * 6).reshape(128, 6) % 50
PICTURES = torch.randn(128, 3, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, tuple[Any, Any]] = {
    "images": (images, PICTURES),
    "two inputs": (Sums, {"x": PICTURES[:, 0, 0], "y": PICTURES[:, 0, 1, :4]}),
    "tied": (Words, TOKENS),
    "transformer": (Sentences, TOKENS),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_any_loop(kind: str, tmp_path: Path) -> None:
    """Static and dynamic, any batch size, near the network's outputs; no file names a folder of the machine."""
    make, example = KINDS[kind]
    torch.manual_seed(0)
    every = autosparse.export(
        make().eval(), None, tmp_path / "out", format=[INT8, DYNAMIC], example=example, timed=False
    )

    assert ["onnx-int8", "onnx-dynamic"] == [exported.format for exported in every]
    for exported in every:
        assert 0 < exported.max_rel_error < 0.1
        assert () == exported.notes
        model, card = onnx.load(exported.path / "model.onnx"), json.loads((exported.path / "card.json").read_text())
        onnx.checker.check_model(model, full_check=True)
        assert exported.format == f"onnx-{card['options']['quantize']}"
        assert card["options"]["quantize"] == {one.key: one.value for one in model.metadata_props}["quantization"]
        assert str(tmp_path.parent).encode() not in model.SerializeToString()
        counted = Counter(node.op_type for node in model.graph.node)
        assert counted["QuantizeLinear" if "int8" in exported.format else "MatMulInteger"] >= 1


@pytest.mark.slow
def test_a_calibration_has_examples_of_its_own(tmp_path: Path) -> None:
    """`calibration` in place of the example; few examples get a note, others than the example's are refused."""

    def scale(name: str, **given: Any) -> tuple[float, tuple[str, ...]]:
        exported = autosparse.export(images().eval(), None, tmp_path / name, format=INT8, **given, timed=False)
        stored = onnx.load(exported.path / "model.onnx").graph.initializer
        (step,) = [onnx.numpy_helper.to_array(one) for one in stored if one.name == "images_scale"]
        return float(step), exported.notes

    few, notes = scale("few", example=PICTURES[:2])
    many, none = scale("many", example=PICTURES[:2], calibration=PICTURES)

    assert few == pytest.approx(float(PICTURES[:2].max() - PICTURES[:2].min()) / 255, rel=1e-5)
    assert many == pytest.approx(float(PICTURES.max() - PICTURES.min()) / 255, rel=1e-5)
    assert ("calibrated on 2 examples: pass 100 or more of the training data as `calibration`",) == notes
    assert () == none
    with pytest.raises(UsageError, match="`calibration` has other shapes or types than `example`"):
        scale("other", example=PICTURES, calibration=PICTURES[..., :4])
    with pytest.raises(AutosparseError, match="`quantize: dynamic` changes no layer of it"):
        autosparse.export(nn.Conv2d(3, 4, 3), None, tmp_path / "none", format=DYNAMIC, example=PICTURES)
    assert {"few", "many"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "text"), [(None, "its outputs differ by"), (True, "its accuracy is")])
def test_a_network_that_integers_destroy(labels: bool | None, text: str, tmp_path: Path) -> None:
    """One input of a wide range, which the network ignores, leaves no steps for the others: nothing is written."""
    network, example = nn.Linear(8, 4), torch.randn(128, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.weight[:, 0], network.bias[:] = 0, 0
        example[:, 0] *= 1e6
        classes = network(example).argmax(dim=1)

    with pytest.raises(AutosparseError, match=f"the onnx model is not that of the network after a reload: {text}"):
        autosparse.export(
            network, None, tmp_path / "out", format=INT8, example=example, labels=classes if labels else None
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_bytes_depend_on_no_process(tmp_path: Path) -> None:
    """Neither on the order of Python's sets nor on the number of threads."""
    code = f"""
import torch, autosparse
from tests.integration.exporters.test_quantized import INT8, PICTURES, images
torch.manual_seed(0)
autosparse.export(images().eval(), None, {str(tmp_path)!r} + "/" + __import__("sys").argv[1],
                  format=INT8, example=PICTURES, timed=False)
"""
    for seed in ("1", "2"):
        limit = ["taskset", "-c", "0"] if seed == "2" and hasattr(os, "sched_setaffinity") else []
        subprocess.run(
            [*limit, sys.executable, "-c", code, seed], check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
    first, second = ((tmp_path / seed / "model.onnx").read_bytes() for seed in ("1", "2"))

    assert first == second


@pytest.mark.slow
def test_a_run_emits_float_and_integer_models(tmp_path: Path) -> None:
    """In a folder each, in one table against dense float onnxruntime; both are in the cache."""
    workspace = Workspace(tmp_path)
    (tmp_path / "own.yaml").write_text(SPEC)
    ended = workspace.run("run", "own.yaml", "--json")
    again = workspace.run("plan", "own.yaml", "--json")
    plain, static, dynamic = ended.json["emitted"]
    (trained,) = [result for result in ended.json["results"] if result["method"] == "snip"]

    assert 0 == ended.code, ended.err
    assert ["onnx", "onnx-int8", "onnx-dynamic"] == [one["format"] for one in ended.json["emitted"]]
    assert 0.5 * plain["bytes"] > static["bytes"]
    assert plain["max_rel_error"] < 1e-4 < static["max_rel_error"] < 0.5
    assert abs(static["test_accuracy"] - trained["test_accuracy"]) < 10
    assert abs(dynamic["test_accuracy"] - trained["test_accuracy"]) < 10
    assert {"onnxruntime"} == {one["runtime"] for one in ended.json["emitted"]}
    assert 0 == again.json["summary"]["run"]
    shown = workspace.run("report")
    assert "onnx-int8" in shown.out
    assert "options: quantize int8, shrink true" in workspace.run("inspect", static["path"]).out


WIDE = """
import torch

def net(shape, classes):
    return Wide()

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(65, 10)
        self.register_buffer("read", torch.tensor([1.0] * 64 + [0.0]))

    def forward(self, images):
        pixels = images.flatten(1)
        return self.layer(torch.cat([pixels, SCALE * pixels[:, :1]], dim=1) * self.read)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "warned"), [(1e7, "int8 of snip at 0.5 is not exported"), (200, "test accuracy falls")]
)
def test_a_run_warns_of_lost_accuracy(scale: float, warned: str, tmp_path: Path) -> None:
    """A value of a wide range leaves few or no steps for the pixels: a warning, or no model, with both accuracies."""
    workspace = Workspace(tmp_path)
    (tmp_path / "net.py").write_text(WIDE.replace("SCALE", str(scale)))
    (tmp_path / "own.yaml").write_text(
        SPEC.replace("resnet8", "net.py:net").replace("epochs: 2", "epochs: 12, crop: 0").replace("[onnx, ", "[")
    )
    ended = workspace.run("run", "own.yaml", "--json")
    models = [one["format"] for one in ended.json["emitted"]]

    assert 0 == ended.code, ended.err
    assert any(warned in one for one in ended.json["warnings"]), ended.json["warnings"]
    assert (["onnx-dynamic"] if "not exported" in warned else ["onnx-int8", "onnx-dynamic"]) == models
