"""Recorded networks: in every format the same outputs, and nothing of the machine that recorded them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import autosparse
from autosparse.exporters import Model, exporters, open_model
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


def test_no_file_tells_where_it_was_made() -> None:
    """Networks are traced, and traces know the files of the machine."""
    model = pruned("mlp", (1, 8, 8))
    data = b"".join(part for entry in exporters for part in entry.function(model).values())

    assert str(Path(autosparse.__file__).parent).encode() not in data


@pytest.mark.parametrize("format", [entry.name for entry in exporters if not entry.facts["exact"]])
def test_a_network_that_cannot_be_recorded_has_no_such_model(format: str) -> None:
    """The run names the reason."""

    class Branching(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs if float(inputs.sum()) > 0 else -inputs)

    state = Branching(2, 2).state_dict()

    with pytest.raises(ValueError, match=r"torch\.\w+ does not (record|export) it"):
        exporters[format].function(Model(state, {}, lambda: Branching(2, 2), (2,)))
