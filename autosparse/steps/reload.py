"""A fresh process that opens an emitted model: `python -m autosparse.steps.reload`, a request in JSON on stdin.

It builds the network, reads the model's files as any user's process would, writes what the network gives for the test
images, and times it beside the same network without a zero.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autosparse.backends import Place
from autosparse.errors import StepError
from autosparse.exporters import exporters
from autosparse.lazy import torch
from autosparse.models import build_model
from autosparse.steps.work import load_images
from autosparse.store import Artifact, dump_tensors, load_tensors

LATENCY_BATCHES = (1, 32)
_LEAST, _MOST, _MOMENT = 5, 50, 1.0  # pairs of runs that a latency is the median of, and seconds that they may take
OUTPUTS = "outputs.safetensors"


def reload(
    folder: Path, format: str, network: Mapping[str, Any], data: Artifact, place: Place
) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """What the emitted model in `folder` gives for the test images, `[images, classes]`, and its latencies: batch ->
    milliseconds of it and of the dense network. Raises StepError when the process fails.
    """
    request = {
        "folder": str(folder),
        "format": format,
        "network": network,
        "data": {"folder": str(data.folder), "key": data.key, "descriptor": data.descriptor},
        "threads": place.threads,
        "batch": place.evaluation_batch,
        "stream": place.stream,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "autosparse.steps.reload"], input=json.dumps(request), capture_output=True, text=True
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise StepError(f"the emitted {format} model does not open in a fresh process: {last}")
    outputs = load_tensors((folder / OUTPUTS).read_bytes())["outputs"]
    (folder / OUTPUTS).unlink()
    return outputs, json.loads(ended.stdout.splitlines()[-1])


def outputs_of(model: torch.nn.Module, images: Any, batch: int) -> torch.Tensor:
    """What a network in evaluation mode gives for images in order, float32 whatever it was trained in."""
    with torch.no_grad():
        return torch.cat([model(inputs).float().cpu() for inputs, _ in images.in_order(batch)])


def _open(request: Mapping[str, Any], *, dense: bool = False) -> torch.nn.Module:
    about = request["network"]
    with torch.random.fork_rng(devices=[]):
        network = build_model(about["name"], about["options"], tuple(about["shape"]), about["classes"])
    if not dense:
        folder, entry = Path(request["folder"]), exporters[request["format"]]
        files = {name: (folder / name).read_bytes() for name in entry.facts["files"]}
        network.load_state_dict(dict(entry.facts["read"](files).state))
    return network.to(memory_format=torch.channels_last).eval()


def _latencies(first: torch.nn.Module, second: torch.nn.Module, inputs: torch.Tensor) -> list[float]:
    pairs: list[tuple[float, ...]] = []
    begin = time.perf_counter()
    while len(pairs) < _LEAST + 1 or (time.perf_counter() - begin < _MOMENT and len(pairs) < _MOST):
        pairs.append(tuple(_timed(network, inputs) for network in (first, second)))
    return [round(1000 * statistics.median(side), 4) for side in zip(*pairs[1:], strict=True)]


def _timed(network: Callable[[torch.Tensor], Any], inputs: torch.Tensor) -> float:
    begin = time.perf_counter()
    with torch.no_grad():
        network(inputs)
    return time.perf_counter() - begin


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    network, dense = _open(request), _open(request, dense=True)
    data = Artifact(Path(request["data"]["folder"]), request["data"]["key"], request["data"]["descriptor"])
    images = load_images(data, "test", torch.device("cpu"), stream=request["stream"])
    outputs = outputs_of(network, images, request["batch"])
    (Path(request["folder"]) / OUTPUTS).write_bytes(dump_tensors({"outputs": outputs}))
    example = torch.zeros(1, *images.input_shape)
    found = {
        str(batch): _latencies(network, dense, example.expand(batch, -1, -1, -1).contiguous())
        for batch in LATENCY_BATCHES
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
