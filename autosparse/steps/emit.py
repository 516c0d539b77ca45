"""emit: a pruned model in one format, opened again in another process, compared and timed, with a card beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autosparse.core.irp import rewind
from autosparse.core.weights import sparsity_of
from autosparse.errors import StepError
from autosparse.exporters import Model, exporters
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.reload import outputs_of, reload
from autosparse.steps.work import Work, build_network, find_model
from autosparse.store import dump_tensors


@operations.register(version=2)
def emit(
    work: Work,
    *,
    format: str,
    format_version: int,
    method: str,
    seed: int,
    sparsity: float | None = None,
    budget: dict[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write the model; `measured.json` tells its bytes, what differs after a reload on test images, and latencies."""
    entry, network = exporters[format], work.inputs["init"].json("network")
    model = Model(work.inputs["train"].tensors("state"), work.inputs["mask"].tensors("masks"))
    files = entry.function(model, **(options or {}))
    name, given = find_model(work, network["model"])
    about = {"name": name, "options": given, "shape": network["shape"], "classes": network["classes"]}
    for file, data in files.items():
        work.output.write(file, data)
    found, latencies = reload(work.output.folder, format, about, work.inputs["data"], work.place)
    images = work.images("test", torch.device("cpu"))
    expected = _outputs(work, model.state, images)
    # Values that were rounded differ; what is compared with is the network that has them.
    written = entry.facts["read"](files).state
    same = all(torch.equal(tensor, written[name]) for name, tensor in model.state.items())
    opened = expected if same else _outputs(work, written, images)
    if (error := float((opened - found).abs().max())) != 0:
        raise StepError(f"the emitted {format} model differs after a reload by {error}")
    difference = (expected - found).abs()
    accuracy = work.inputs["evaluate"].json("result")
    right = found.argmax(dim=1) == images.labels
    work.output.write_json(
        "measured",
        {
            "bytes": sum(map(len, files.values())),
            "dense_bytes": len(dump_tensors(model.state)),
            "max_abs_error": float(difference.max()),
            "max_rel_error": float(difference.max() / expected.abs().max().clamp_min(1e-30)),
            "test_accuracy": 100 * int(right.sum()) / len(right),
            "latency": latencies,
            "threads": work.place.threads,
        },
    )
    card = {
        "format": format,
        **({"options": options} if options else {}),
        "method": method,
        "sparsity": sparsity_of(accuracy["total"], accuracy["kept"]) if sparsity is None else sparsity,
        **({"budget": budget} if budget else {}),
        "seed": seed,
        "network": network,
        "accuracy": accuracy,
        "max_abs_error": float(difference.max()),
        "files": {name: file for name, file in work.output.files.items() if name in files},
        "provenance": {role: _origin(artifact.descriptor) for role, artifact in sorted(work.inputs.items())},
    }
    work.output.write("card.json", (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())


def _outputs(work: Work, state: Mapping[str, torch.Tensor], images: Any) -> torch.Tensor:
    network = rewind(build_network(work), state).cpu().to(memory_format=torch.channels_last)
    return outputs_of(network.eval(), images, work.place.evaluation_batch)


def _origin(descriptor: Any) -> dict[str, Any]:
    return {name: descriptor[name] for name in ("operation", "key", "version", "options", "environment", "files")}
