"""Recorded networks: in every format the same outputs, and nothing of the machine that recorded them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import autosparse
from autosparse.core.sparse.row_products import RowProducts
from autosparse.exporters import (
    BATCHES,
    EAGER,
    Model,
    Patience,
    Signature,
    card_fields,
    exporters,
    measure_speed,
    open_model,
    runtime_of,
)
from autosparse.models import build_model
from tests.unit.exporters.test_formats import pruned


@pytest.mark.parametrize("format", exporters.names)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet8", (3, 16, 16)), ("mlp", (1, 8, 8)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("vgg11", (3, 32, 32)), ("mobilenet", (3, 16, 16)))),
    ],
)  # fmt: skip
def test_outputs_are_those_of_the_pruned_network(format: str, name: str, shape: tuple[int, int, int]) -> None:
    """Up to rounding, for one image and for several."""
    model = pruned(name, shape)
    entry = exporters[format]
    files = entry.function(model)
    assert model.network is not None
    whole, outputs = model.network(), open_model(format, files, model.network())
    whole.load_state_dict(dict(model.state))
    whole.eval()

    assert tuple(files) == entry.facts["files"]
    for count in (1, 7):
        images = torch.randn(count, *shape)
        with torch.no_grad():
            torch.testing.assert_close(whole(images), outputs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", exporters.names)
def test_speed_ups_are_against_the_dense_network_in_the_same_runtime(format: str) -> None:
    """The files of a dense network open as those of the format do, and give its outputs; or PyTorch runs both."""
    shape = (1, 8, 8)
    network = build_model("resnet8", {}, shape, 10).eval()
    model = Model(network.state_dict(), {}, lambda: build_model("resnet8", {}, shape, 10), shape)
    runtime = runtime_of(format)
    if runtime.dense is None:
        pruned_model = pruned("resnet8", shape)
        opened = open_model(format, exporters[format].function(pruned_model), build_model("resnet8", {}, shape, 10))

        assert EAGER == runtime
        assert isinstance(opened, torch.nn.Module)
        assert {type(module).__name__ for module in opened.modules()} <= {
            type(module).__name__ for module in network.modules()
        }
        return
    dense = open_model(format, runtime.dense(model), build_model("resnet8", {}, shape, 10))
    images = torch.randn(3, *shape)

    assert EAGER.name != runtime.name
    with torch.no_grad():
        torch.testing.assert_close(network(images), dense(images), rtol=1e-4, atol=1e-5)


def test_the_dense_network_of_sparse_kernels_has_dense_layers() -> None:
    """Normalizations are folded as in the exported model."""
    shape = (1, 8, 8)
    network = build_model("resnet8", {}, shape, 10).eval()
    write = runtime_of("sparse").dense
    assert write is not None
    files = write(Model(network.state_dict(), {}, lambda: build_model("resnet8", {}, shape, 10), shape))
    dense = open_model("sparse", files, build_model("resnet8", {}, shape, 10))

    assert isinstance(dense, torch.nn.Module)
    assert not any(isinstance(module, RowProducts | torch.nn.BatchNorm2d) for module in dense.modules())


@pytest.mark.slow
def test_cells_of_a_loaded_machine_are_blank() -> None:
    """Four busy processes for each core: whatever the formats, no number is shown."""
    network = build_model("resnet8", {}, (1, 8, 8), 10).eval()
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        speeds = [
            measure_speed(network, network, network, torch.randn(count, 1, 8, 8), patience=Patience(1, 1))
            for count in BATCHES
        ]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

    assert [False, False] == [speed.stable for speed in speeds], speeds
    assert all(speed.reason for speed in speeds)


def test_no_file_tells_where_it_was_made() -> None:
    """Networks are traced, and traces know the files of the machine."""
    model = pruned("mlp", (1, 8, 8))
    data = b"".join(part for entry in exporters for part in entry.function(model).values())

    assert str(Path(autosparse.__file__).parent).encode() not in data


def test_a_program_of_torch_holds_its_signature() -> None:
    """As an extra file, the same in equal models; the file opens in torch as any other."""
    model = replace(pruned("mlp", (1, 8, 8)), signature=Signature.of((1, 8, 8), 10, [*"abcdefghij"]))
    files, extra = exporters["pt2"].function(model), {"signature.json": ""}
    torch.export.load(io.BytesIO(files["model.pt2"]), extra_files=extra)

    assert card_fields(model.signature or Signature((), (), ())) == json.loads(extra["signature.json"])
    assert files == exporters["pt2"].function(model)


@pytest.mark.parametrize("format", [entry.name for entry in exporters if not entry.facts["exact"]])
def test_a_network_that_cannot_be_recorded_has_no_such_model(format: str) -> None:
    """The run names the reason."""

    class Branching(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs if float(inputs.sum()) > 0 else -inputs)

    state = Branching(2, 2).state_dict()

    with pytest.raises(ValueError, match=r"torch\.\w+ does not (record|export) it"):
        exporters[format].function(Model(state, {}, lambda: Branching(2, 2), (2,)))
