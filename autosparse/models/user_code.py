"""User-defined networks: `path/to/file.py:factory` or `package.module:factory`."""

from __future__ import annotations

from typing import Any

from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, models
from autosparse.models.trace import structure_of
from autosparse.user_code import PATTERN, call, guarded, identity_of, label, load_factory


def _identify(name: str, options: dict[str, Any], shape: Shape, classes: int) -> dict[str, Any]:
    identity = identity_of(name, options)
    with guarded(name, f"running an image of {' x '.join(map(str, shape))} through"):
        structure = structure_of(
            label(name), lambda: network(name, shape, classes, **options), identity, shape, classes, device="cpu"
        )
    return {**identity, "structure": structure}


@models.register(name="FILE.py:FACTORY", pattern=PATTERN, identify=_identify, user_code=True)
def network(name: str, shape: Shape, classes: int, **options: Any) -> torch.nn.Module:
    """Your own: `factory(input_shape, classes, **options)` in a file or `package.module`, giving an nn.Module."""
    return call(name, load_factory(name), shape, classes, **options)  # type: ignore[no-any-return]
