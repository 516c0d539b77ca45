"""Dense weights with zeros, and the masks beside them."""

from __future__ import annotations

from autosparse.exporters import Model, exporters
from autosparse.store import dump_tensors


@exporters.register
def safetensors(model: Model) -> dict[str, bytes]:
    """`model.safetensors` loads into the plain network by `load_state_dict`; `masks.safetensors` beside it."""
    return {"model.safetensors": dump_tensors(model.state), "masks.safetensors": dump_tensors(model.masks)}
