"""What `torch.export` records: a graph of operations that torch runs without the network's code."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Annotated

from autosparse.exporters._base import Model, exporters
from autosparse.exporters.shrunk import smaller
from autosparse.foreign_code import first_line
from autosparse.lazy_torch import torch

FILE = "model.pt2"


def run(files: Mapping[str, bytes]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model in torch: only for files of one's own. Raises ValueError for bytes that are none."""
    try:
        module = torch.export.load(io.BytesIO(files[FILE])).module()
    except Exception as error:  # whatever it stumbles over
        raise ValueError(f"torch.export does not open it: {error}") from error
    return lambda images: module(images)  # a module that has no other mode than that in which it was recorded


@exporters.register(run=run, files=(FILE,), exact=False, opener="torch.export.load", builds=20)
def pt2(model: Model, *, shrink: Annotated[bool, "leave out channels that carry nothing"] = True) -> dict[str, bytes]:
    """`model.pt2`: what `torch.export` records, without dead channels; for torch without the network's code.

    It takes any number of images. Open only what you trust: `torch.export.load` is torch's, and may unpickle.
    """
    network = smaller(model, shrink=shrink)
    file = io.BytesIO()
    try:
        recorded = torch.export.export(
            network, (torch.zeros(2, *model.shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        for node in recorded.graph.nodes:  # where in which file of this machine it was written is no part of a model
            node.meta.pop("stack_trace", None)
        torch.export.save(recorded, file)
    except Exception as error:  # whatever of the network's own code it stumbles over
        raise ValueError(f"torch.export does not record it: {first_line(error)}") from error
    return {FILE: file.getvalue()}
