"""Folders for a model hub, opened by the libraries that people use: timm and Hugging Face's image processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config

from autosparse.datasets.decode import decoded
from autosparse.exporters import Model, Preprocessing, Signature, exporters
from autosparse.models import build_model, config_of
from tests.unit.exporters.test_formats import about

VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2}
LABELS = ("no", "yes", "maybe")


def folder_of(where: Path, name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> torch.nn.Module:
    """Write a network as a hub's folder, and return it in evaluation mode."""
    network = build_model(name, options, shape, len(LABELS)).eval()
    images = Preprocessing.of(shape, (0.3, 0.4, 0.5)[: shape[0]], (0.2, 0.3, 0.1)[: shape[0]])
    config = config_of(name, options, shape, LABELS, mean=images.mean, std=images.std)
    model = Model(network.state_dict(), {}, about=about(name, shape), config=config)
    model = replace(model, signature=Signature.of(shape, len(LABELS), LABELS, images))
    for file, data in exporters["hub"].function(model).items():
        (where / file).write_bytes(data)
    return network


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("timm:resnet10t", {"exclude": ["fc"]}, (1, 32, 32)),
        ("timm:resnet18.a1_in1k", {"initialization": "orthogonal"}, (3, 32, 32)),
        ("timm:vit_tiny_patch16_224", VIT, (3, 32, 32)),
    ],
)
def test_timm_loads_the_folder(tmp_path: Path, name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Bit for bit the same outputs, with the class names and the normalization; for a new head too."""
    network = folder_of(tmp_path, name, options, shape)
    loaded: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    data = resolve_model_data_config(loaded)  # type: ignore[no-untyped-call]
    images = torch.randn(2, *shape)

    with torch.no_grad():
        assert torch.equal(network(images), loaded(images))
    assert [*LABELS] == loaded.pretrained_cfg["label_names"]
    assert (shape, "bilinear", 1.0) == (data["input_size"], data["interpolation"], data["crop_pct"])
    assert ([0.3, 0.4, 0.5][: shape[0]], [0.2, 0.3, 0.1][: shape[0]]) == (data["mean"], data["std"])
    assert 7 == timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).num_classes
    assert 'timm.create_model("local-dir:' in (tmp_path / "README.md").read_text()


def test_other_networks_name_no_architecture(tmp_path: Path) -> None:
    """Networks of the same name in timm are others."""
    folder_of(tmp_path, "vgg11", {"width": 4}, (3, 32, 32))

    assert "architecture" not in (tmp_path / "config.json").read_text()
    assert "autosparse.load(" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(12, 12), (40, 40), (16, 30)])
def test_image_processors_give_the_pipelines_inputs(tmp_path: Path, sides: tuple[int, int]) -> None:
    """Squares up to rounding; other pictures within two grey levels, as the crop is on whole pixels."""
    processors = pytest.importorskip("transformers.models.auto.image_processing_auto")
    folder_of(tmp_path, "mlp", {}, (3, 12, 12))
    pixels = numpy.linspace(0, 255, 3 * sides[0] * sides[1]).reshape(*sides, 3).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    _, stored = decoded("picture", (tmp_path / "picture.png").read_bytes(), 3, 12)
    expected = (stored / 255 - [0.3, 0.4, 0.5]) / [0.2, 0.3, 0.1]

    processor = processors.AutoImageProcessor.from_pretrained(tmp_path)
    (result,) = processor(Image.open(tmp_path / "picture.png"), return_tensors="np")["pixel_values"]

    tolerance = 1e-6 if sides[0] == sides[1] else 2.1 / 255 / 0.1  # two levels of the narrowest channel
    assert (3, 12, 12) == result.shape
    assert tolerance > abs(expected.transpose(2, 0, 1) - result).max()
