"""emit: a pruned model in one format, loaded back and compared, with a card that says where it comes from."""

from __future__ import annotations

import json
from typing import Any

from autosparse.core.irp import rewind
from autosparse.core.weights import sparsity_of
from autosparse.errors import StepError
from autosparse.exporters import Model, exporters
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.work import Work, build_network
from autosparse.store import load_tensors


@operations.register(version=1)
def emit(
    work: Work,
    *,
    format: str,
    format_version: int,
    method: str,
    seed: int,
    sparsity: float | None = None,
    budget: dict[str, int] | None = None,
) -> None:
    """Write the model, read it back into a plain network, and compare outputs on test images."""
    model = Model(work.inputs["train"].tensors("state"), work.inputs["mask"].tensors("masks"))
    files = exporters[format].function(model)
    again = load_tensors(files["model.safetensors"])
    images = next(iter(work.images("test").in_order(64)))[0]
    with torch.no_grad():
        first, second = (rewind(build_network(work), state).eval()(images) for state in (model.state, again))
    error = float((first - second).abs().max())
    if error != 0 or any(bool((again[name][~keep] != 0).any()) for name, keep in model.masks.items()):
        raise StepError(f"the emitted {format} model differs from the trained one by {error}")
    for name, data in files.items():
        work.output.write(name, data)
    accuracy = work.inputs["evaluate"].json("result")
    card = {
        "format": format,
        "method": method,
        "sparsity": sparsity_of(accuracy["total"], accuracy["kept"]) if sparsity is None else sparsity,
        **({"budget": budget} if budget else {}),
        "seed": seed,
        "network": work.inputs["init"].json("network"),
        "accuracy": accuracy,
        "max_abs_error": error,
        "files": work.output.files,
        "provenance": {role: _origin(artifact.descriptor) for role, artifact in sorted(work.inputs.items())},
    }
    work.output.write("card.json", (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())


def _origin(descriptor: Any) -> dict[str, Any]:
    return {name: descriptor[name] for name in ("operation", "key", "version", "options", "environment", "files")}
