"""8-bit integers: layers, determinism, and the limit below which a model is of no use."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from autosparse.exporters import calibrates, is_lossy
from autosparse.exporters.quantization import damage, loses_accuracy, quantized
from autosparse.exporters.shrunk import ONNX, run_onnx

BATCHES = [torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def program(*kinds: str, tokens: bool = False) -> Any:
    """An ONNX model: an operation after another on `[batch, 6]`, each with random weights if it takes any."""
    random = np.random.default_rng(0)
    weights = {f"w{number}": random.standard_normal((6, 6)).astype(np.float32) for number in range(len(kinds))}
    weights |= {"bias": np.zeros(6, np.float32), "table": random.standard_normal((20, 6)).astype(np.float32)}
    given = {"MatMul": ["w{}"], "Gemm": ["w{}"], "LayerNormalization": ["bias", "bias"], "Gather": []}
    nodes, read = [], "x"
    for number, kind in enumerate(kinds):
        inputs = [read, *(name.format(number) for name in given.get(kind, []))]
        inputs = ["table", read] if kind == "Gather" else inputs
        if kind == "Tied":
            kind, inputs = "Gemm", [read, "table"]
        options: dict[str, Any] = {"transB": 1} if "table" in inputs and kind == "Gemm" else {}
        written = "y" if number == len(kinds) - 1 else f"value{number}"
        nodes.append(helper.make_node(kind, inputs, [written], name=f"node{number}", **options))
        read = written
    used = {name for node in nodes for name in node.input}
    size = 20 if kinds[-1] == "Tied" else 6
    x = helper.make_tensor_value_info(
        "x", TensorProto.INT64 if tokens else TensorProto.FLOAT, ["batch"] if tokens else ["batch", 6]
    )
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size])
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used]
    graph = helper.make_graph(nodes, "graph", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs(proto: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Return the outputs in onnxruntime."""
    made: torch.Tensor = run_onnx({ONNX: proto.SerializeToString()})(inputs)
    return made


def small(proto: Any, quantize: str = "int8", batches: Sequence[torch.Tensor] = BATCHES) -> Any:
    """Return the quantized model, which is valid."""
    made = quantized(proto, quantize, lambda: batches)
    onnx.checker.check_model(made, full_check=True)
    return made


def kinds(proto: Any) -> Counter[str]:
    """Count the operations."""
    return Counter(node.op_type for node in proto.graph.node)


@pytest.mark.parametrize("quantize", ["int8", "dynamic"])
def test_a_quantized_model_has_nearly_the_outputs_of_the_network(quantize: str) -> None:
    """Weights are int8 with 7 bits and a scale for each output; float inputs and outputs; the metadata name the way."""
    given = program("MatMul", "Relu", "MatMul")
    made = small(given, quantize)
    stored = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    weights = [value for name, value in stored.items() if name.endswith("_quantized")]
    expected = outputs(given, BATCHES[0])

    assert 0 < float((outputs(made, BATCHES[0]) - expected).norm() / expected.norm()) < 0.05
    assert [("int8", (6, 6))] * 2 == [(value.dtype.name, value.shape) for value in weights if value.ndim == 2]
    assert 64 >= max(abs(value.astype(int)).max() for value in weights)
    assert 2 == sum(value.shape == (6,) for name, value in stored.items() if name.startswith("w") and "scale" in name)
    assert [TensorProto.FLOAT] * 2 == [
        one.type.tensor_type.elem_type for one in (*made.graph.input, *made.graph.output)
    ]
    assert quantize == {one.key: one.value for one in made.metadata_props}["quantization"]
    assert [""] == [one.domain for one in made.opset_import]


def test_equal_inputs_give_equal_bytes() -> None:
    """And tools that log or print leave the program's own logging alone."""
    before = [*logging.root.handlers]
    first, second = (small(program("MatMul", "Relu", "MatMul")) for _ in range(2))

    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert before == logging.root.handlers


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither to stdout, which is for results, nor to stderr."""
    small(program("MatMul", "Relu"))

    assert ("", "") == tuple(capfd.readouterr())


def test_ranges_are_those_of_the_calibration() -> None:
    """The scale of the input is its range in all batches over 255."""
    made = small(program("MatMul"))
    scale = next(numpy_helper.to_array(one) for one in made.graph.initializer if one.name == "x_scale")
    data = torch.cat(BATCHES)

    assert float(scale) == pytest.approx(float(data.max() - data.min()) / 255, rel=1e-5)


def test_transformers_stay_float_between_their_layers() -> None:
    """A layer normalization marks them; in other networks a sigmoid has integers before and after it."""
    plain, transformer = (
        small(program("MatMul", kind, "Sigmoid", "Softmax")) for kind in ("Relu", "LayerNormalization")
    )

    assert read_by(plain, "Sigmoid") == read_by(plain, "MatMul") == {"DequantizeLinear"}
    assert {"DequantizeLinear"} == read_by(transformer, "MatMul")
    assert {"LayerNormalization"} == read_by(transformer, "Sigmoid")


def read_by(proto: Any, kind: str) -> set[str]:
    """Return the operations that write the inputs of one kind."""
    writers = {name: node.op_type for node in proto.graph.node for name in node.output}
    return {writers[name] for node in proto.graph.node if node.op_type == kind for name in node.input}


def test_an_embedding_tied_to_a_linear_layer() -> None:
    """Tokens of integers; the layer is quantized, the table that it shares stays float for the embedding."""
    tokens = [torch.arange(20), torch.arange(5)]
    given = program("Gather", "Relu", "Tied", tokens=True)
    made = small(given, batches=tokens)
    expected = outputs(given, tokens[0])

    assert {"DequantizeLinear"} == read_by(made, "Gemm")
    assert 0 < float((outputs(made, tokens[0]) - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize(("quantize", "layers"), [("dynamic", ("Relu", "Sigmoid")), ("int8", ("Cos", "Sin"))])
def test_a_model_without_layers_to_quantize(quantize: str, layers: tuple[str, ...]) -> None:
    """The run names the reason."""
    with pytest.raises(ValueError, match=f"onnxruntime does not quantize it: `quantize: {quantize}` changes no layer"):
        small(program(*layers), quantize)


def classified(right: int, of: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of two classes and labels, of which the first `right` agree."""
    labels = torch.zeros(of, dtype=torch.int64)
    guesses = (torch.arange(of) >= right).long()
    return torch.nn.functional.one_hot(guesses, 2).float(), labels


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (900, 900, False),
        (900, 815, False),
        (900, 805, True),
        (900, 950, False),
        (20, 15, False),
        (100, 70, True),
        (0, 0, False),
    ],
)
def test_the_least_accuracy_of_a_quantized_model(before: int, after: int, broken: bool) -> None:
    """It keeps nine tenths of the images that float32 classifies correctly, unless chance explains the loss."""
    (expected, labels), (actual, _) = classified(before), classified(after)

    assert broken == bool(damage(expected, actual, labels))
    if broken:
        assert f"its accuracy is {after / 10:.2f} %, in float32 {before / 10:.2f} %" == damage(expected, actual, labels)


def test_outputs_without_labels() -> None:
    """A model is of use if its error is below half of its outputs."""
    expected = torch.ones(10, 4)

    assert "" == damage(expected, expected * 0.6, None)
    assert "its outputs differ by 60% in norm" == damage(expected, expected * 0.4, None)
    assert "" == damage(torch.zeros(2, 2), torch.zeros(2, 2), None)


def test_facts_follow_from_the_options() -> None:
    """Only `int8` needs images, and both ways are lossy."""
    given = [{"quantize": way} for way in ("none", "int8", "dynamic")]

    assert [False, True, True] == [is_lossy("onnx", options) for options in given]
    assert [0, 256, 0] == [calibrates("onnx", options) for options in given]
    assert (False, 0) == (is_lossy("pt2", {}), calibrates("pt2", {}))
    assert (True, False) == (loses_accuracy(90.0, 88.9), loses_accuracy(90.0, 89.1))
