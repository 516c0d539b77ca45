"""Checkpoints of unfinished steps: `checkpoints/<key>.checkpoint`, replaced atomically, deleted when the step ends.

The file is a sha256 and the safetensors that it is of: with a changed byte it counts as none. A checkpoint is valid
under the conditions that it was saved in: the environment and the bytes of the step's inputs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autosparse.lazy_torch import torch
from autosparse.regular_file import read_regular
from autosparse.store.files import canonical, digest, drafted, sweep, write_through, writing
from autosparse.store.safetensors import dump_tensors, load_tensors

EVERY = 60.0
"""Seconds of training between two checkpoints."""

_DIGEST = hashlib.sha256().digest_size
_ABOUT = "about"  # tensor with the bytes of a JSON text


class Checkpoint:
    """Checkpoint of one step, which a killed process leaves and the next one continues from.

    Args:
        path: File of the checkpoint.
        conditions: JSON value that must be the same when it is loaded.
        every: Seconds between two checkpoints.
        clock: Function that returns seconds.
    """

    def __init__(
        self, path: Path, conditions: Any, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._conditions = path, digest(conditions)
        self._every, self._clock = every, clock
        self._last = clock()

    @property
    def is_due(self) -> bool:
        """Whether the next checkpoint is due."""
        return self._clock() - self._last >= self._every

    def load(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Return the JSON value and the tensors that were saved last under the same conditions, if any.

        Returns:
            The value and the tensors by name; None for a missing or damaged file, or one of other conditions.
        """
        try:
            data = read_regular(self._path)
            if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
                return None
            tensors = load_tensors(data[_DIGEST:])
            about = json.loads(bytes(tensors.pop(_ABOUT).tolist()))
        except (OSError, ValueError, KeyError):
            return None
        return (about["value"], tensors) if about.get("conditions") == self._conditions else None

    def save(self, value: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the checkpoint.

        Args:
            value: JSON value.
            tensors: Tensors by name, on any device.

        Raises:
            MissingRequirement: If the file cannot be written.
        """
        text = canonical({"conditions": self._conditions, "value": value}).encode()
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        stored[_ABOUT] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self._path.parent, self._path.name)
            with drafted(self._path) as draft:
                content = dump_tensors(stored)
                write_through(draft, hashlib.sha256(content).digest() + content)
        self._last = self._clock()

    def remove(self) -> None:
        """Delete the checkpoint."""
        self._path.unlink(missing_ok=True)
