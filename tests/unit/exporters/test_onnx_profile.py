"""Narrower ONNX files of one graph, and the seconds of their layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autosparse.core.graph.shrink import same_outputs
from autosparse.core.graph.slicing import sliced, slicing_of
from autosparse.core.graph.trial import find_groups
from autosparse.core.weights import prunable_weights
from autosparse.exporters.onnx_profile import Timed, by_layer, narrower

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def network() -> torch.nn.Sequential:
    """A convolution, a depthwise one, and a classifier."""
    torch.manual_seed(0)
    convolutions = (torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, groups=8))
    return torch.nn.Sequential(*convolutions, torch.nn.Flatten(), torch.nn.Linear(128, 5)).eval()


def written(network: torch.nn.Sequential, *, transposed: bool = False) -> bytes:
    """The ONNX file of the network, as an exporter names its values; `transposed` as one writes a linear layer."""
    helper, values = onnx.helper, dict(network.state_dict())
    if transposed:
        values["val_0"] = values.pop("4.weight").T.contiguous()
    tensors = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in values.items()]
    float32 = onnx.TensorProto.FLOAT
    linear = (
        [
            helper.make_node("MatMul", ["flat", "val_0"], ["product"], "node_matmul"),
            helper.make_node("Add", ["product", "4.bias"], ["logits"], "node_add"),
        ]
        if transposed
        else [helper.make_node("Gemm", ["flat", "4.weight", "4.bias"], ["logits"], "node_linear", transB=1)]
    )
    nodes: list[Any] = [
        helper.make_node("Conv", ["images", "0.weight", "0.bias"], ["conv"], "node_conv"),
        helper.make_node("Relu", ["conv"], ["relu"], "node_relu"),
        helper.make_node("Conv", ["relu", "2.weight", "2.bias"], ["depthwise"], "node_depthwise", group=8),
        helper.make_node("Flatten", ["depthwise"], ["flat"], "node_flatten"),
        *linear,
    ]
    inputs = [helper.make_tensor_value_info("images", float32, ["batch", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("logits", float32, ["batch", 5])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("keep", [1, 4, 7])
def test_a_narrower_file_computes_the_smaller_network(network: torch.nn.Sequential, keep: int) -> None:
    """Sliced weights and fewer groups of a depthwise convolution, for any number of images."""
    images = torch.randn(2, 3, 8, 8)
    coupling = find_groups(network, images)
    flags = {group.name: torch.arange(group.channels) < keep for group in coupling.groups}
    slicing = slicing_of(network, coupling.groups, flags)

    timed = Timed(narrower(written(network), slicing), images, threads=1)

    with torch.no_grad():
        assert same_outputs(sliced(network, slicing)(images[:1]), timed.run(images[:1]))


@pytest.mark.parametrize("transposed", [False, True])
def test_seconds_belong_to_layers(network: torch.nn.Sequential, transposed: bool) -> None:
    """Fused and blocked nodes are those of the weights that they read; others are in no layer."""
    content = written(network, transposed=transposed)
    nodes = Timed(content, torch.randn(1, 3, 8, 8), threads=1).profile(0.0)
    layers = by_layer(content, nodes, prunable_weights(network))

    assert {"0.weight", "2.weight", "4.weight"} == {*layers}
    assert all(seconds >= 0 for seconds in layers.values())
    assert sum(layers.values()) <= sum(nodes.values()) + 1e-12


def test_names_after_the_optimization_lead_to_weights(network: torch.nn.Sequential) -> None:
    """A blocked convolution is named after its output, or that of the activation fused into it."""
    nodes = {"relu_nchwc": 1.0, "depthwise_nchwc": 2.0, "node_linear": 4.0, "ReorderOutput": 8.0, "node_flatten": 16.0}

    expected = {"0.weight": 1.0, "2.weight": 2.0, "4.weight": 4.0}
    assert expected == by_layer(written(network), nodes, prunable_weights(network))


def test_a_file_that_does_not_run_is_a_value_error() -> None:
    """Also bytes that are no model."""
    with pytest.raises(ValueError, match="onnxruntime does not open it"):
        Timed(b"nothing", torch.zeros(1), threads=1)
