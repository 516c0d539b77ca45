"""Weights & Biases: a run with the spec's settings; `WANDB_MODE=offline` keeps it on this machine."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

from autosparse.trackers._base import Followed, trackers


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run
        self._axes: set[str] = set()

    def log(self, name: str, value: float, step: int) -> None:
        # Steps of a plan do not come in one order: each number has an axis of its own.
        if name not in self._axes:
            self._axes.add(name)
            self._run.define_metric(name, step_metric=f"{name}:step")
        self._run.log({name: value, f"{name}:step": step})

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


@trackers.register(package="wandb")
def wandb(
    followed: Followed,
    *,
    project: Annotated[str, "that the run belongs to"] = "autosparse",
    mode: Annotated[str, "`online`, `offline`; by default W&B's own setting"] = "",
) -> _Run:
    """A run of Weights & Biases, with the spec's settings as its configuration."""
    library: Any = importlib.import_module("wandb")  # it has no types where it is not installed
    run = library.init(
        project=project,
        name=followed.name,
        dir=str(followed.folder),
        config=dict(followed.settings),
        settings=library.Settings(silent=True),
        **({"mode": mode} if mode else {}),
    )
    return _Run(run)
