"""Seconds of every layer of an ONNX model in onnxruntime, and narrower models of the same graph."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from autosparse.borders import optional
from autosparse.core.graph.slicing import Slicing
from autosparse.lazy_torch import numpy, torch

_KERNEL, _BLOCKED = "_kernel_time", "_nchwc"


def narrower(content: bytes, slicing: Slicing) -> bytes:
    """Return an ONNX model with sliced weights, of the graph of the dense network.

    It may be none: constants of the graph can depend on widths.
    """
    onnx = _onnx()
    model = onnx.load_model_from_string(content)
    outputs: dict[str, tuple[int, int]] = {}
    for tensor in model.graph.initializer:
        if not (kept := slicing.kept.get(tensor.name)):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        dense = values.shape[0]
        for dim, index in kept.items():
            values = values.take(index.numpy(), axis=dim)
        outputs[tensor.name] = dense, values.shape[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(numpy.ascontiguousarray(values), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Conv" and attribute.name == "group" and attribute.i > 1 and node.input[1] in outputs:
                dense, now = outputs[node.input[1]]
                attribute.i = attribute.i * now // dense
    del model.graph.value_info[:]  # shapes of the dense network
    data: bytes = model.SerializeToString()
    return data


def session_options(onnxruntime: Any, threads: int) -> Any:
    """Return the options of a session with a number of threads, which leaves the processor to others after each run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads would slow down the next model
    return options


class Timed:
    """ONNX model in onnxruntime with a number of threads: a function of one batch, and its profile.

    Raises ValueError for a model that onnxruntime does not open or run.
    """

    def __init__(self, content: bytes, batch: torch.Tensor, threads: int) -> None:
        self._content, self._threads = content, threads
        self._session = self._open()
        self._input, self._batch = self._session.get_inputs()[0].name, batch.numpy()
        self()  # allocates

    def __call__(self) -> None:
        """Compute the batch."""
        self._run(self._session, self._batch)

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs of some images."""
        return torch.from_numpy(self._run(self._session, images.numpy()))

    def _open(self, profile: str = "") -> Any:
        with optional("onnxruntime", purpose="a latency budget", install="'autosparse[onnx]'"):
            import onnxruntime
        options = session_options(onnxruntime, self._threads)
        options.enable_profiling = bool(profile)
        options.profile_file_prefix = profile
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime creates its error classes dynamically
            raise ValueError(f"onnxruntime does not open it: {error}") from error

    def _run(self, session: Any, images: Any) -> Any:
        try:
            return session.run(None, {self._input: images})[0]
        except Exception as error:
            raise ValueError(f"onnxruntime does not run it: {error}") from error

    def profile(self, seconds: float, least: int = 3) -> dict[str, float]:
        """Return the median seconds of every node, of as many calls as fit."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(str(Path(folder) / "profile"))
            self._run(session, self._batch)
            begin, calls = time.perf_counter(), 1
            while calls <= least or time.perf_counter() - begin < seconds:
                self._run(session, self._batch)
                calls += 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        times: dict[str, list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
                times.setdefault(event["name"].removesuffix(_KERNEL), []).append(event["dur"] / 1e6)
        # The first call allocates; a node of a loop runs several times in a call.
        return {name: median(durations[1:] or durations) * len(durations) / calls for name, durations in times.items()}


def by_layer(content: bytes, nodes: Mapping[str, float], weights: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the seconds of the nodes that have a layer's weights, by its name; onnxruntime may have fused more in.

    Args:
        content: ONNX model, before onnxruntime optimizes it.
        nodes: Seconds of the nodes that onnxruntime runs, by name.
        weights: Weights of the network.

    Returns:
        Layer -> seconds. Nodes without weights are in none.
    """
    layer_of = _layers(content, weights)
    seconds: dict[str, float] = {}
    for name, duration in nodes.items():
        if layer := layer_of(name.removesuffix(_BLOCKED), blocked=name.endswith(_BLOCKED)):
            seconds[layer] = seconds.get(layer, 0.0) + duration
    return seconds


def _layers(content: bytes, weights: Mapping[str, torch.Tensor]) -> Callable[..., str]:
    onnx = _onnx()
    graph = onnx.load_model_from_string(content).graph
    named = {name: name for name in weights}
    for tensor in graph.initializer:
        if tensor.name not in weights and len(tensor.dims) == 2:  # a matrix product takes a transposed weight
            values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()).T
            for name, weight in weights.items():
                if weight.shape == values.shape and torch.equal(weight.cpu(), values):
                    named[tensor.name] = name
    nodes = {node.name: node for node in graph.node}
    makers = {output: node for node in graph.node for output in node.output}

    def layer_of(name: str, *, blocked: bool) -> str:
        # A blocked convolution has the name of its output, which may be that of an activation fused into it.
        node = makers.get(name) if blocked else nodes.get(name.partition("/")[0])
        while node is not None:
            if layer := next((named[one] for one in node.input if one in named), ""):
                return layer
            node = makers.get(node.input[0]) if blocked and node.input else None
        return ""

    return layer_of


def _onnx() -> Any:
    with optional("onnx", purpose="a latency budget", install="'autosparse[onnx]'"):
        import onnx
    return onnx
