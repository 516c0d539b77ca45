"""Signatures: the facts for a server, in the card, in ONNX's metadata and in the hub's files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from autosparse.exporters import Preprocessing, Signature, card_fields, exporters
from autosparse.exporters.signature import hub_config, hub_preprocessor, onnx_metadata
from tests.unit.exporters.test_formats import about, model, signed


def test_the_card_has_all_that_a_server_needs() -> None:
    """Task, classes, tensors and preprocessing, as JSON; preprocessing is left out where it is unknown."""
    fields = card_fields(signed(("no", "yes"), channels=1))

    assert fields == json.loads(json.dumps(fields))
    assert {
        "task": "image-classification",
        "classes": ["no", "yes"],
        "inputs": [{"name": "images", "shape": ["batch", 1, 4, 4], "layout": "NCHW", "dtype": "float32"}],
        "outputs": [{"name": "logits", "shape": ["batch", 2], "layout": "NC", "dtype": "float32"}],
        "images": {
            "size": [4, 4], "channels": "L", "mean": [0.5], "std": [0.25], "resize": "shorter_side",
            "interpolation": "bilinear", "crop": "center", "max_value": 255,
        },
    } == fields  # fmt: skip
    assert "images" not in card_fields(Signature.of((3, 4, 4), 2))


def test_classes_without_names_are_indices() -> None:
    """A name for each output, or none at all."""
    assert ("0", "1", "2") == Signature.of((3, 4, 4), 3).classes
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        Signature.of((3, 4, 4), 3, ["a", "b"])


def test_metadata_of_onnx_is_text() -> None:
    """Sorted, plain text as it is, other values as JSON in ASCII: any name of a class comes back."""
    names = ("grün", 'a "b"', "\udcff", "a\nb", "")
    metadata = onnx_metadata(signed(names))

    assert ["classes", "images", "inputs", "outputs", "task"] == [*metadata]
    assert "image-classification" == metadata["task"]
    assert [*names] == json.loads(metadata["classes"])
    assert all(text.isascii() for text in metadata.values())


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ((3, 8, 8), {"num_channels": 3, "image_size": 8}),
        ((1, 8, 6), {"num_channels": 1, "image_size": [8, 6]}),
        ((5,), {}),
    ],
)
def test_the_hubs_config_has_labels_and_the_input(shape: tuple[int, ...], images: dict[str, object]) -> None:
    """Labels in both directions; `image_size` is one number for squares, and absent where inputs are no images."""
    config = hub_config(Signature.of(shape, 2, ["no", "yes"]))

    assert {
        "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}, "num_labels": 2, **images,
    } == config  # fmt: skip


@pytest.mark.parametrize(
    ("signature", "known"),
    [
        (signed(), True),
        (signed(channels=1), False),
        (signed(channels=2), False),
        (Signature.of((3, 4, 4), 2), False),
        (replace(signed(), images=Preprocessing.of((3, 4, 5), [0.5] * 3, [0.25] * 3)), False),
    ],
)
def test_an_image_processor_is_described_where_one_does_the_same(signature: Signature, known: bool) -> None:
    """Hugging Face's keep colour and crop squares."""
    files = exporters["hub"].function(replace(model(0.9), about=about("vgg"), signature=signature))

    assert known == (hub_preprocessor(signature) is not None) == ("preprocessor_config.json" in files)
    assert "config.json" in files
