"""Verification of emitted models in a fresh process: `python -m autosparse.steps.verify_export`, JSON requests.

It builds the network, reads the model's files as any user's process would, writes its outputs for test images, and
times it next to the dense network. For a network that no process can build, it opens formats that need none, and writes
their outputs for given inputs. One such process serves all exports of its parent process, with which it ends: imports,
test images and dense networks are loaded once.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from autosparse.backends import Placement
from autosparse.borders import in_short, is_out_of_memory, out_of_memory
from autosparse.core.images import Images
from autosparse.core.inputs import Inputs, tensors_in
from autosparse.core.torch_compat.memory_layout import lay_out
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import state_of
from autosparse.errors import StepError
from autosparse.exporters import (
    BATCHES,
    EAGER,
    Function,
    Model,
    Patience,
    Speed,
    exporters,
    measure_speed,
    open_model,
    runtime_of,
)
from autosparse.lazy_torch import default_environment, torch
from autosparse.models import build_model
from autosparse.steps.context import load_images
from autosparse.store import Artifact, canonical, dump_tensors, load_tensors

INPUTS, OUTPUTS, DENSE = "inputs.pt", "outputs.safetensors", "dense"


@dataclass(frozen=True)
class _Process:
    """A verifying process; `opened` are the structure and runtimes of the dense network that it keeps open."""

    pipe: subprocess.Popen[str]
    opened: set[tuple[str, str]] = field(default_factory=set)


def reload(
    folder: Path,
    format: str,
    network: Mapping[str, Any],
    data: Artifact,
    placement: Placement,
    batches: Sequence[int] = BATCHES,
) -> tuple[torch.Tensor, dict[str, Speed]]:
    """Return the outputs of the emitted model in `folder` for the test images, `[images, classes]`, and its speed.

    Speed: batch size -> measurements. Raises ValueError if it does not open, and StepError if the process ends.
    """
    process = running()
    dense, runtime = folder / DENSE, runtime_of(format)
    key = (canonical([network, placement.threads]), runtime.name)  # a session keeps the threads with which it opens
    if {structure for structure, _ in process.opened} != {key[0]}:
        process.opened.clear()  # as the process does
    request = {
        "folder": str(folder),
        "format": format,
        "network": network,
        "data": {"folder": str(data.folder), "key": data.key, "descriptor": data.descriptor},
        "threads": placement.threads,
        "batch": placement.evaluation_batch,
        "stream": placement.stream,
        "batches": [*batches],
        "runtime": runtime.name,
    }
    try:
        if runtime.dense and key not in process.opened:
            dense.mkdir()
            for name, content in _write_dense(format, network).items():
                (dense / name).write_bytes(content)
        outputs, answer = _outputs(process, request)
    finally:
        shutil.rmtree(dense, ignore_errors=True)
    process.opened.add(key)
    return outputs["outputs"], _speeds().validate_python(answer["speeds"])


def outputs_elsewhere(folder: Path, format: str, batches: Sequence[Inputs]) -> list[list[torch.Tensor]]:
    """Return the tensors that the model in `folder` returns for each batch, in another process, without its network.

    Raises ValueError if the model does not open or run, and StepError if the process ends.
    """
    torch.save([*batches], folder / INPUTS)
    try:
        outputs, answer = _outputs(running(), {"folder": str(folder.absolute()), "format": format, "inputs": INPUTS})
    finally:
        (folder / INPUTS).unlink()
    return [[outputs[f"{index}.{part}"] for part in range(parts)] for index, parts in enumerate(answer["parts"])]


def _outputs(process: _Process, request: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    answer = _ask(process.pipe, json.dumps(request))
    if answer.get("memory"):
        raise out_of_memory("opening an exported model", MemoryError(answer["error"]))
    if "error" in answer:
        raise ValueError(f"it does not open in another process: {answer['error']}")
    file = Path(request["folder"]) / OUTPUTS
    outputs = load_tensors(file.read_bytes())
    file.unlink()
    return outputs, answer


def running() -> _Process:
    """Return the verifying process; start one if none runs."""
    if _process().pipe.poll() is not None:
        _process.cache_clear()
    return _process()


@cache
def _process() -> _Process:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "autosparse.steps.verify_export"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=default_environment(),
        text=True,
    )
    atexit.register(_end, process)
    return _Process(process)


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
        raise StepError(
            f"the process that checks emitted models ended with code {process.wait()}, perhaps for lack of memory",
            "run the same command again, or with fewer workers: `--set target.workers=1`",
        ) from None
    except BaseException:  # Ctrl-C, in a notebook too: the next request must not read this answer
        _end(process)
        raise
    return answer


@cache
def _speeds() -> TypeAdapter[dict[str, Speed]]:
    return TypeAdapter(dict[str, Speed])


def _write_dense(format: str, about: Mapping[str, Any]) -> dict[str, bytes]:
    # The files of the dense network; none if the format has none of it. Initial weights are as fast as trained ones.
    write = runtime_of(format).dense
    assert write is not None
    try:
        return write(Model(state_of(_dense(about)), {}, lambda: _dense(about), tuple(about["shape"])))
    except ValueError:
        return {}


def outputs_of(model: Function, images: Any, batch: int) -> torch.Tensor:
    """Return a network's outputs in evaluation mode for images in order, float32 whatever it was trained in.

    Its random numbers are the same in every process.
    """
    with torch.no_grad(), seeded(0):
        return torch.cat([model(inputs).float().cpu() for inputs, _ in images.in_order(batch)])


def _dense(about: Mapping[str, Any]) -> torch.nn.Module:
    with seeded(0):
        return build_model(about["name"], about["options"], tuple(about["shape"]), about["classes"])


def _read(folder: Path, format: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in exporters[format].facts["files"]}


def _ready(model: Function, images: Images) -> tuple[Function, Images]:
    return (model.eval(), lay_out(model.eval(), images)) if isinstance(model, torch.nn.Module) else (model, images)


class _Verifier:
    """Answers to the requests of one parent process, with the images and dense networks that they share."""

    def __init__(self) -> None:
        self._images: dict[str, Images] = {}
        self._structure = ""
        self._dense: dict[str, Function | None] = {}  # by runtime, of one structure
        self._patience = Patience()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write the model's outputs to its folder; return its speed for every batch size, if it has a network."""
        if "inputs" in request:
            return _write_outputs(Path(request["folder"]), request["format"], request["inputs"])
        torch.set_num_threads(request["threads"])
        images = self._load(request["data"], stream=request["stream"])
        folder, format, about = Path(request["folder"]), request["format"], request["network"]
        structure = canonical([about, request["threads"]])
        if structure != self._structure:
            self._structure, self._dense = structure, {}
        network, laid = _ready(open_model(format, _read(folder, format), _dense(about)), images)
        outputs = outputs_of(network, laid, request["batch"])
        (folder / OUTPUTS).write_bytes(dump_tensors({"outputs": outputs}))
        eager = self._eager(about, images)
        dense = eager if request["runtime"] == EAGER.name else self._open_dense(request, images)
        random = torch.Generator().manual_seed(0)
        inputs = torch.randn(max(request["batches"]), *images.input_shape, generator=random)
        speeds = {
            str(count): measure_speed(network, dense, eager, inputs[:count], patience=self._patience)
            for count in request["batches"]
        }
        return {"speeds": _speeds().dump_python(speeds)}

    def _load(self, data: Mapping[str, Any], *, stream: bool) -> Images:
        if data["key"] not in self._images:
            artifact = Artifact(Path(data["folder"]), data["key"], data["descriptor"])
            self._images = {data["key"]: load_images(artifact, "test", torch.device("cpu"), stream=stream)}
        return self._images[data["key"]]

    def _eager(self, about: Mapping[str, Any], images: Images) -> Function:
        if EAGER.name not in self._dense:
            self._dense[EAGER.name], _ = _ready(_dense(about), images)
        dense = self._dense[EAGER.name]
        assert dense is not None
        return dense

    def _open_dense(self, request: Mapping[str, Any], images: Images) -> Function | None:
        # The parent sends the files once.
        runtime, format, folder = request["runtime"], request["format"], Path(request["folder"]) / DENSE
        if runtime not in self._dense:
            self._dense[runtime] = None
            if any(folder.iterdir()):
                with suppress(ValueError):
                    model = open_model(format, _read(folder, format), _dense(request["network"]))
                    self._dense[runtime], _ = _ready(model, images)
        return self._dense[runtime]


def _write_outputs(folder: Path, format: str, inputs: str) -> dict[str, Any]:
    model = open_model(format, _read(folder, format), None)
    batches = torch.load(folder / inputs, weights_only=True)
    with torch.no_grad():
        outputs = [[*tensors_in(model(batch))] for batch in batches]
    named = {f"{index}.{part}": tensor for index, parts in enumerate(outputs) for part, tensor in enumerate(parts)}
    (folder / OUTPUTS).write_bytes(dump_tensors(named))
    return {"parts": [*map(len, outputs)]}


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the run decides
    torch.manual_seed(0)  # imports torch while the parent writes its first model
    verifier = _Verifier()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # output of user code must not mix with answers
        for line in sys.stdin:
            try:
                answer = verifier.answer(json.loads(line))
            except BaseException as error:  # any error of a network's code
                answer = {"error": in_short(error), "memory": is_out_of_memory(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
