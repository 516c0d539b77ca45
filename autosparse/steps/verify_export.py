"""Verification of an emitted model in a fresh process: `python -m autosparse.steps.verify_export`, JSON requests.

It builds the network, reads the model's files as any user's process would, writes its outputs for test images,
and times it next to the dense network. One such process serves a run: importing torch takes longer
than a request. It ends with its parent process, which closes its input.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from autosparse.backends import Placement
from autosparse.core.images import Images
from autosparse.core.torch_compat.memory_layout import lay_out
from autosparse.core.torch_compat.random_state import seeded
from autosparse.exporters import BATCHES, exporters, open_model
from autosparse.lazy_torch import torch
from autosparse.models import build_model
from autosparse.steps.context import load_images
from autosparse.store import Artifact, dump_tensors, load_tensors

Function: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
OUTPUTS = "outputs.safetensors"
_LEAST, _MOST, _MOMENT = 5, 50, 1.0  # pairs of runs for the median of a latency, and their limit in seconds


def reload(
    folder: Path, format: str, network: Mapping[str, Any], data: Artifact, placement: Placement
) -> tuple[torch.Tensor, dict[str, tuple[float, float]]]:
    """Return the outputs of the emitted model in `folder` for the test images, `[images, classes]`, and its latencies.

    Latencies: batch -> ms of it and of the dense network. Raises ValueError if it does not open or the process ends.
    """
    request = {
        "folder": str(folder),
        "format": format,
        "network": network,
        "data": {"folder": str(data.folder), "key": data.key, "descriptor": data.descriptor},
        "threads": placement.threads,
        "batch": placement.evaluation_batch,
        "stream": placement.stream,
    }
    if _process().poll() is not None:
        _process.cache_clear()
    answer = _ask(_process(), json.dumps(request))
    if "error" in answer:
        raise ValueError(f"it does not open in another process: {answer['error']}")
    outputs = load_tensors((folder / OUTPUTS).read_bytes())["outputs"]
    (folder / OUTPUTS).unlink()
    return outputs, {count: (emitted, dense) for count, (emitted, dense) in answer["latency"].items()}


@cache
def _process() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "autosparse.steps.verify_export"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _ask(process: subprocess.Popen[str], request: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
    except (OSError, ValueError):  # the process has ended, perhaps for lack of memory
        return {"error": f"it ended with {process.wait()}"}
    return answer


def outputs_of(model: Function, images: Any, batch: int) -> torch.Tensor:
    """Return a network's outputs in evaluation mode for images in order, float32 whatever it was trained in.

    Its random numbers are the same in every process.
    """
    with torch.no_grad(), seeded(0):
        return torch.cat([model(inputs).float().cpu() for inputs, _ in images.in_order(batch)])


def _dense(request: Mapping[str, Any]) -> torch.nn.Module:
    about = request["network"]
    with seeded(0):
        return build_model(about["name"], about["options"], tuple(about["shape"]), about["classes"])


def _open(request: Mapping[str, Any]) -> Function:
    folder, format = Path(request["folder"]), request["format"]
    files = {name: (folder / name).read_bytes() for name in exporters[format].facts["files"]}
    return open_model(format, files, _dense(request))


def _ready(model: Function, images: Images) -> tuple[Function, Images]:
    return (model.eval(), lay_out(model.eval(), images)) if isinstance(model, torch.nn.Module) else (model, images)


def _latencies(first: Function, second: Function, inputs: torch.Tensor) -> list[float]:
    pairs: list[tuple[float, ...]] = []
    begin = time.perf_counter()
    while len(pairs) < _LEAST + 1 or (time.perf_counter() - begin < _MOMENT and len(pairs) < _MOST):
        pairs.append(tuple(_timed(network, inputs) for network in (first, second)))
    return [round(1000 * statistics.median(side), 4) for side in zip(*pairs[1:], strict=True)]


def _timed(network: Function, inputs: torch.Tensor) -> float:
    begin = time.perf_counter()
    with torch.no_grad():
        network(inputs)
    return time.perf_counter() - begin


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(request["threads"])
    data = Artifact(Path(request["data"]["folder"]), request["data"]["key"], request["data"]["descriptor"])
    images = load_images(data, "test", torch.device("cpu"), stream=request["stream"])
    network, laid = _ready(_open(request), images)
    dense, _ = _ready(_dense(request), images)
    outputs = outputs_of(network, laid, request["batch"])
    (Path(request["folder"]) / OUTPUTS).write_bytes(dump_tensors({"outputs": outputs}))
    example = torch.zeros(1, *images.input_shape)
    batches = {str(count): example.expand(count, -1, -1, -1).contiguous() for count in BATCHES}
    return {"latency": {count: _latencies(network, dense, inputs) for count, inputs in batches.items()}}


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the run decides
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # output of user code must not mix with answers
        for line in sys.stdin:
            try:
                answer = _answer(json.loads(line))
            except Exception as error:  # any error of a network's code
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
