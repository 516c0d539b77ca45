"""TensorBoard: event files that `tensorboard --logdir runs` shows."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

from autosparse.trackers._base import Followed, trackers


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        self._writer.close()


@trackers.register(package="tensorboard")
def tensorboard(
    followed: Followed,
    *,
    folder: Annotated[str, "where event files go; by default `tensorboard` in the run's folder"] = "",
) -> _Events:
    """Event files that `tensorboard --logdir runs` shows."""
    library: Any = importlib.import_module("torch.utils.tensorboard")
    writer = library.SummaryWriter(folder or str(followed.folder / "tensorboard"))
    writer.add_text("spec", "\n".join(f"    {name}: {value}" for name, value in followed.settings.items()))
    return _Events(writer)
