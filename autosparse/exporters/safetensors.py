"""Dense weights with zeros, and the masks beside them."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.exporters._base import Model, exporters
from autosparse.store import dump_tensors, load_tensors

GAIN = "zeros in dense tensors are stored and multiplied like any other number"
FILE, MASKS = "model.safetensors", "masks.safetensors"


def read(files: Mapping[str, bytes]) -> Model:
    """The model that `safetensors` wrote. Raises ValueError for bytes that are not one."""
    model = Model(load_tensors(files[FILE]), load_tensors(files[MASKS]) if MASKS in files else {})
    for name, mask in model.masks.items():
        if name not in model.state or model.state[name].shape != mask.shape or mask.dtype.is_floating_point:
            raise ValueError(f"mask {name} is of no tensor of {FILE}")
        if bool((model.state[name][~mask.bool()] != 0).any()):
            raise ValueError(f"tensor {name} is not zero where its mask is")
    return model


@exporters.register(read=read, files=(FILE, MASKS), exact=True, gain=GAIN)
def safetensors(model: Model) -> dict[str, bytes]:
    """`model.safetensors` loads into the plain network by `load_state_dict`; `masks.safetensors` beside it."""
    return {FILE: dump_tensors(model.state), MASKS: dump_tensors(model.masks)}
