"""Dense weights with zeros, and the masks next to them; for a model hub with a model card."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Annotated, Any

import yaml

from autosparse.exporters._base import Model, exporters
from autosparse.exporters.signature import Signature, TensorSpec, hub_config, hub_preprocessor
from autosparse.packaged import template
from autosparse.store import dump_tensors, load_tensors
from autosparse.text import listed, literal, markdown, table

GAIN = "zeros are stored and multiplied"
FILE, MASKS, CARD = "model.safetensors", "masks.safetensors", "README.md"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_SHOWN = 100  # classes that a model card lists
_LOAD = """import autosparse

network = autosparse.load("path/of/this/folder")

# Without autosparse, load the weights into the same network, built by you:
import safetensors.torch

network.load_state_dict(safetensors.torch.load_file("model.safetensors"))"""
_TIMM = """import timm

# After an upload, `hf-hub:USER/NAME` in place of `local-dir:FOLDER`:
network = timm.create_model("local-dir:path/of/this/folder", pretrained=True)"""


def read(files: Mapping[str, bytes]) -> Model:
    """Return the model that `safetensors` wrote. Raises ValueError for bytes that are not one."""
    model = Model(load_tensors(files[FILE]), load_tensors(files[MASKS]) if MASKS in files else {})
    for name, mask in model.masks.items():
        if name not in model.state or model.state[name].shape != mask.shape or mask.dtype.is_floating_point:
            raise ValueError(f"mask {name} is of no tensor of {FILE}")
        if bool((model.state[name][~mask.bool()] != 0).any()):
            raise ValueError(f"tensor {name} is not zero where its mask is")
    return model


@exporters.register(read=read, files=(FILE, MASKS), exact=True, gain=GAIN)
def safetensors(model: Model) -> dict[str, bytes]:
    """`model.safetensors` loads into the plain network by `load_state_dict`; `masks.safetensors` has its masks."""
    return {FILE: dump_tensors(model.state), MASKS: dump_tensors(model.masks)}


@exporters.register(
    read=read, files=(CARD, FILE, MASKS), optional=(CONFIG, PREPROCESSOR), exact=True, others=True, gain=GAIN
)
def hub(
    model: Model,
    *,
    license: Annotated[str, "license identifier of the hub, such as `apache-2.0`"] = "",
) -> dict[str, bytes]:
    """Folder for a model hub: `safetensors`, and `README.md`, the model card; `hf upload NAME FOLDER` uploads it.

    The card describes the network, its accuracy over seeds with its controls, how to load it and its provenance.
    `config.json` has the classes, and for a network of timm the fields by which timm loads the folder;
    `preprocessor_config.json` has the preprocessing of colour images for image processors of Hugging Face.
    """
    return {CARD: _card(model, license).encode(), **safetensors(model), **_configs(model)}


def _configs(model: Model) -> dict[str, bytes]:
    if model.signature is None:
        return {}
    configs = {CONFIG: {**hub_config(model.signature), **model.config}, PREPROCESSOR: hub_preprocessor(model.signature)}
    return {name: (json.dumps(config, indent=2) + "\n").encode() for name, config in configs.items() if config}


def _card(model: Model, license: str) -> str:
    about = model.about
    if "network" not in about:  # of any training loop
        return _network_card(model, license)
    network, accuracy = about["network"], about["accuracy"]
    data = about["options"]["data"]["identity"]
    named = str(data.get("name", "own data"))
    text = Template(template("model_card.md")).substitute(
        metadata=yaml.safe_dump(_metadata(about, named, license), sort_keys=False, allow_unicode=True).strip(),
        network=literal(network["model"]["name"]),
        sparsity=f"{about['sparsity']:.4g}",
        shape=" x ".join(map(str, network["shape"])),
        kept=f"{accuracy['kept']:,}",
        total=f"{accuracy['total']:,}",
        method=literal(about["method"]),
        accuracies=table(("", "test accuracy in %", "seeds"), _accuracies(about)),
        dataset=literal(named),
        seed=about["seed"],
        accuracy=f"{accuracy['test_accuracy']:.2f}",
        code=_TIMM if "architecture" in model.config else _LOAD,
        preprocessing=_preprocessing(model.signature),
        classes=_classes(model.signature),
        layers=table(("layer", "weights", "kept"), _layers(accuracy["layers"])),
        data=_options(data),
        mask=_options(about["options"].get("mask", {})),
        training=_options(about["options"]["train"]),
        environment=_environment(about),
        steps=table(("step", "key"), [(role, f"`{key}`") for role, key in sorted(about["keys"].items())]),
    )
    return text.rstrip() + "\n"


def _network_card(model: Model, license: str) -> str:
    about, accuracy = model.about, model.about["accuracy"]
    name = about["network_class"].rpartition(".")[2]
    metadata = {
        **({"license": license} if license else {}),
        "library_name": "autosparse",
        **({"pipeline_tag": about["task"]} if "task" in about else {}),
        "tags": ["pruning", "sparsity", "pytorch"],
    }
    measured = accuracy.get("example_accuracy")
    sides = [(tensor.name, tensor.dtype, " x ".join(map(str, tensor.shape))) for tensor in _tensors(model.signature)]
    text = Template(template("network_card.md")).substitute(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).strip(),
        network=literal(name),
        sparsity=f"{about['sparsity']:.4g}",
        kept=f"{accuracy['kept']:,}",
        total=f"{accuracy['total']:,}",
        accuracy="" if measured is None else f"Accuracy on {accuracy['examples']:,} examples: {measured:.2f} %.",
        tensors=table(("input or output", "type", "shape"), [(f"`{literal(one)}`", *rest) for one, *rest in sides]),
        preprocessing=_preprocessing(model.signature) if model.signature and model.signature.images else "",
        classes=_classes(model.signature) if model.signature and model.signature.classes else "",
        layers=table(("layer", "weights", "kept"), _layers(accuracy["layers"])),
        environment=_environment(about),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _tensors(signature: Signature | None) -> Sequence[TensorSpec]:
    return (*signature.inputs, *signature.outputs) if signature else ()


def _environment(about: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {markdown(value)}" for name, value in sorted(about["environment"].items()))


def _preprocessing(signature: Signature | None) -> str:
    if signature is None or signature.images is None:
        return "The preprocessing of its images is not recorded."
    images = signature.images
    height, width = images.size
    fit = f"scale and crop it to {height} x {width} pixels by `PIL.ImageOps.fit` ({images.interpolation})"
    colours = f"convert it to `{images.channels}`, {fit}, and " if signature.takes_pictures else ""
    return (
        f"To prepare an image, {colours}compute `(pixels / {images.max_value} - mean) / std` channel by channel, with "
        f"mean `{_numbers(images.mean)}` and std `{_numbers(images.std)}`. `card.json` has all digits."
    )


def _classes(signature: Signature | None) -> str:
    if signature is None:
        return ""
    names = [f"`{literal(name)}`" for name in signature.classes]
    return f"The outputs are the logits of {len(names):,} classes, in this order: {listed(names, _SHOWN)}."


def _metadata(about: Mapping[str, Any], dataset: str, license: str) -> dict[str, Any]:
    result = {"type": "accuracy", "value": round(about["accuracy"]["test_accuracy"], 4), "name": "test accuracy in %"}
    of = {"task": {"type": "image-classification"}, "dataset": {"name": dataset, "type": dataset}, "metrics": [result]}
    return {
        **({"license": license} if license else {}),
        "library_name": "autosparse",
        "pipeline_tag": "image-classification",
        "tags": ["pruning", "sparsity", "pytorch"],
        "metrics": ["accuracy"],
        "model-index": [
            {"name": f"{about['network']['model']['name']} at sparsity {about['sparsity']:.4g}", "results": [of]}
        ],
    }


def _accuracies(about: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    by_method: dict[tuple[str, str], dict[int, float]] = {
        ("method", about["method"]): {about["seed"]: about["accuracy"]["test_accuracy"]}
    }
    for role, accuracy in sorted(about["others"].items()):
        kind, _, rest = role.partition(".")
        name, _, seed = rest.rpartition(".")
        by_method.setdefault((kind, name), {})[int(seed)] = accuracy
    for (kind, name), values in by_method.items():
        spread = f" ± {statistics.stdev(values.values()):.2f}" if len(values) > 1 else ""
        subject = markdown(name) if kind == "method" else f"control {markdown(name)}"
        yield subject, f"{statistics.fmean(values.values()):.2f}{spread}", ", ".join(map(str, sorted(values)))


def _layers(layers: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    for layer in layers:
        share = 100 * layer["kept"] / max(1, layer["size"])
        yield f"`{literal(layer['name'])}`", f"{layer['size']:,}", f"{layer['kept']:,} ({share:.3g} %)"


def _options(value: Any) -> str:
    return literal(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
