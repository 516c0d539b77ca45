"""Quantization of ONNX models to 8-bit integers by onnxruntime's tools: static, after a calibration, or dynamic."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from autosparse.borders import border, optional, refusal
from autosparse.core.inputs import Inputs, tensors_in
from autosparse.lazy_torch import torch

NONE, STATIC, DYNAMIC = "none", "int8", "dynamic"
Quantize = Annotated[
    Literal["none", "int8", "dynamic"],
    "8-bit integers: `int8` for all layers, calibrated on training images; `dynamic` for linear layers",
]
CALIBRATION, AT_ONCE = 256, 8
"""training images of a calibration, and of one of its batches: onnxruntime keeps all their activations"""
_PATH = re.compile(r"\S+\.onnx\b")
_PROBLEM = "onnxruntime does not quantize it"
_MOST_LOST, _MOST_ERROR, _TINY = 0.1, 0.5, 1e-30


def quantizes(options: Mapping[str, Any]) -> bool:
    """Return whether a format's options round the network to integers."""
    return bool(options.get("quantize", NONE) != NONE)


def calibrates(options: Mapping[str, Any]) -> int:
    """Return the number of training images that a format's options need for a calibration."""
    return CALIBRATION if options.get("quantize") == STATIC else 0


def quantized(proto: Any, quantize: str, calibration: Callable[[], Iterable[Inputs]] | None) -> Any:
    """Return a float32 ONNX model with integers in its layers; outputs and inputs keep their types.

    Weights are int8, one scale for each output channel, activations uint8: the pair that has instructions on x86-64
    (VNNI). Static models have the ranges of the activations in the batches of `calibration`. Weights have 7 bits: 8
    overflow the 16-bit sums of processors without VNNI. Raises ValueError for a model without such layers.
    """
    with _importing():
        import onnx
        from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic, quantize_static
        from onnxruntime.quantization.registry import IntegerOpsRegistry
    shared: dict[str, Any] = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
    with border(_refuse), _quiet(), tempfile.TemporaryDirectory() as name:
        given, prepared, result = (str(Path(name) / f"{stage}.onnx") for stage in ("given", "prepared", "result"))
        onnx.save(proto, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        if quantize == DYNAMIC:
            kinds = [kind for kind in IntegerOpsRegistry if kind != "Conv"]  # ConvInteger is slower than float32
            quantize_dynamic(prepared, result, op_types_to_quantize=kinds, **shared)
        else:
            assert calibration is not None, "a static quantization has a calibration"
            reader = _Reader([one.name for one in proto.graph.input], calibration())
            activations = {"activation_type": QuantType.QUInt8, **_layers(onnx.load(prepared).graph)}
            quantize_static(prepared, result, reader, **activations, **shared)
        made = onnx.load(result)
    if not any(node.op_type.endswith("QuantizeLinear") for node in made.graph.node):
        raise ValueError(f"{_PROBLEM}: `quantize: {quantize}` changes no layer of it")
    made.metadata_props.add(key="quantization", value=quantize)
    used = {node.domain for node in made.graph.node}
    for unused in [one for one in made.opset_import if one.domain not in used]:  # of onnxruntime's optimizer
        made.opset_import.remove(unused)
    return made


def damage(expected: torch.Tensor, actual: torch.Tensor, labels: torch.Tensor | None) -> str:
    """Return the reason why a quantized model is of no use; empty for a usable one.

    With labels: it loses more than a tenth of the correctly classified examples, by three standard deviations of the
    changed ones (McNemar). Without: its error exceeds half of the outputs, in Euclidean norm.
    """
    if labels is None:
        error = float((expected.double() - actual.double()).norm() / expected.double().norm().clamp_min(_TINY))
        return f"its outputs differ by {error:.0%} in norm" if error > _MOST_ERROR else ""
    before, after = (outputs.argmax(dim=1) == labels for outputs in (expected, actual))
    lost, changed = int(before.sum()) - int(after.sum()), int((before != after).sum())
    if lost <= max(_MOST_LOST * int(before.sum()), 3 * changed**0.5):
        return ""
    return f"its accuracy is {100 * after.double().mean():.2f} %, in float32 {100 * before.double().mean():.2f} %"


def loses_accuracy(before: float, after: float) -> bool:
    """Return whether a model loses more than one percentage point, the default limit of NNCF."""
    return after < before - 1.0


def _layers(graph: Any) -> dict[str, Any]:
    # The operations and nodes that become integers, as options of onnxruntime.
    readers = Counter(name for node in graph.node for name in {*node.input})
    tied = [node.name for node in graph.node if node.op_type == "Gather" and readers[node.input[0]] > 1]
    is_transformer = any(node.op_type == "LayerNormalization" for node in graph.node)
    # Elsewhere transformers lose accuracy; a table tied to a linear layer has scales along another dimension.
    return {"op_types_to_quantize": ["Conv", "Gemm", "MatMul"] if is_transformer else None, "nodes_to_exclude": tied}


class _Reader:
    """Batches of a calibration, as onnxruntime reads them."""

    def __init__(self, names: Iterable[str], batches: Iterable[Inputs]) -> None:
        self._names, self._batches = [*names], iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by input name; None after the last one."""
        if (batch := next(self._batches, None)) is None:
            return None
        fed = zip(self._names, tensors_in(batch), strict=True)
        return {name: tensor.cpu().contiguous().numpy() for name, tensor in fed}


def _refuse(error: BaseException) -> BaseException:
    # Without the paths of temporary files, which differ in every run.
    refused = error if isinstance(error, OSError) else refusal(_PROBLEM)(error)
    return ValueError(_PATH.sub("the model", str(refused))) if isinstance(refused, ValueError) else refused


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Its tools print, and log through functions of `logging` that configure a root logger without handlers.
    silent, nowhere = logging.NullHandler(), io.StringIO()
    logging.root.addHandler(silent)
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.root.removeHandler(silent)


def _importing() -> contextlib.AbstractContextManager[None]:
    return optional("onnx", "onnxruntime", purpose="`quantize` of format `onnx`", install="'autosparse[onnx]'")
