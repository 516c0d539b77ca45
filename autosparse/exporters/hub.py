"""A folder for a model hub: dense weights, masks, and a model card for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Annotated, Any

import yaml

from autosparse.exporters import safetensors as dense
from autosparse.exporters._base import Model, exporters
from autosparse.packaged import template
from autosparse.text import literal, table

CARD = "README.md"


@exporters.register(read=dense.read, files=(CARD, dense.FILE, dense.MASKS), exact=True, others=True, gain=dense.GAIN)
def hub(
    model: Model,
    *,
    license: Annotated[str, "of the model, as the hub calls it: `apache-2.0`"] = "",
) -> dict[str, bytes]:
    """A folder for a model hub: `safetensors`, and `README.md`, the model card; `hf upload NAME FOLDER` uploads it.

    The card tells what the network is, its accuracy over seeds beside its controls, how to load it and how it was made.
    """
    return {CARD: _card(model.about, license).encode(), **dense.safetensors(model)}


def _card(about: Mapping[str, Any], license: str) -> str:
    network, accuracy = about["network"], about["accuracy"]
    data, images = about["options"]["data"]["identity"], about["images"]
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
        mean=_numbers(images["mean"]),
        spread=_numbers(images["spread"]),
        layers=table(("layer", "weights", "kept"), _layers(accuracy["layers"])),
        data=_options(data),
        mask=_options(about["options"].get("mask", {})),
        training=_options(about["options"]["train"]),
        environment=", ".join(f"{name} {literal(value)}" for name, value in sorted(about["environment"].items())),
        steps=table(("step", "key"), [(role, f"`{key}`") for role, key in sorted(about["keys"].items())]),
    )
    return text.rstrip() + "\n"


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
        subject = literal(name) if kind == "method" else f"control {literal(name)}"
        yield subject, f"{statistics.fmean(values.values()):.2f}{spread}", ", ".join(map(str, sorted(values)))


def _layers(layers: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    for layer in layers:
        share = 100 * layer["kept"] / max(1, layer["size"])
        yield f"`{literal(layer['name'])}`", f"{layer['size']:,}", f"{layer['kept']:,} ({share:.3g} %)"


def _options(value: Any) -> str:
    return literal(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
