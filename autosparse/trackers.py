"""Experiment trackers by name, `pip install 'autosparse[track]'`.

A registered function maps a `Followed` run to a tracker; its fact `package` is the library that must be installed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from autosparse.borders import expand
from autosparse.registry import Registry
from autosparse.text import visible


@dataclass(frozen=True)
class Followed:
    """Tracked run: its name, its folder, and the settings of its spec, path -> value."""

    name: str
    folder: Path
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Tracker:
    """Logger of values by name and step; `close` takes whether the run finished."""

    log: Callable[[str, float, int], object]
    close: Callable[[bool], object]


trackers: Registry[Callable[..., Tracker]] = Registry("tracker", "trackers")


_NO_NAME = re.compile(r"[^\w./ -]")  # characters that MLflow does not allow in names
_LONGEST, _MOST, _LONGEST_NAME = 500, 100, 250  # length of a parameter's text, parameters per call, length of a name
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|databricks(-uc)?$|uc$")


@trackers.register(package="mlflow")
def mlflow(
    followed: Followed,
    *,
    uri: Annotated[str, "URI of the tracking server or folder; default: MLflow's setting"] = "",
    experiment: Annotated[str, "experiment of the run"] = "autosparse",
) -> Tracker:
    """Run of MLflow, with the spec's settings as parameters."""
    library: Any = importlib.import_module("mlflow")  # no types where it is not installed
    client = library.MlflowClient(_address(uri) or None)
    known = client.get_experiment_by_name(experiment)
    experiment_id = known.experiment_id if known else client.create_experiment(experiment)
    run = client.create_run(experiment_id, run_name=followed.name).info.run_id
    settings = {_named(name): str(value)[:_LONGEST] for name, value in followed.settings.items()}
    params = [library.entities.Param(name, value) for name, value in settings.items() if value]
    for first in range(0, len(params), _MOST):
        client.log_batch(run, params=params[first : first + _MOST])
    return Tracker(
        lambda name, value, step: client.log_metric(run, _named(name), value, step=step),
        lambda finished: client.set_terminated(run, "FINISHED" if finished else "KILLED"),
    )


def _address(uri: str) -> str:
    # MLflow parses a folder's path as a part of a URI: `%2F` in it would be a slash.
    return uri if not uri or _URI.match(uri) else expand(uri).absolute().as_uri()


def _named(name: str) -> str:
    # MLflow rejects a name that, as a path, is not normalized or leaves its folder.
    parts = (part for part in _NO_NAME.sub("_", name).split("/") if part not in ("", ".", ".."))
    return "/".join(parts)[:_LONGEST_NAME].rstrip("/")


@trackers.register(package="tensorboard")
def tensorboard(
    followed: Followed,
    *,
    folder: Annotated[str, "folder of the event files; default: `tensorboard` in the run folder"] = "",
) -> Tracker:
    """Event files that `tensorboard --logdir runs` shows."""
    library: Any = importlib.import_module("torch.utils.tensorboard")
    writer = library.SummaryWriter(folder or str(followed.folder / "tensorboard"))
    writer.add_text("spec", "\n".join(visible(f"    {name}: {value}") for name, value in followed.settings.items()))
    return Tracker(writer.add_scalar, lambda finished: writer.close())


@trackers.register(package="wandb")
def wandb(
    followed: Followed,
    *,
    project: Annotated[str, "project of the run"] = "autosparse",
    mode: Annotated[str, "mode: `online` or `offline`; default: W&B's setting"] = "",
) -> Tracker:
    """Run of Weights & Biases, with the spec's settings as its configuration."""
    library: Any = importlib.import_module("wandb")  # no types where it is not installed
    run = library.init(
        project=project,
        name=followed.name,
        dir=str(followed.folder),
        config=dict(followed.settings),
        settings=library.Settings(silent=True),
        **({"mode": mode} if mode else {}),
    )
    axes: set[str] = set()

    def log(name: str, value: float, step: int) -> None:
        # Steps of a plan arrive in no fixed order: each number has a separate axis.
        if name not in axes:
            axes.add(name)
            run.define_metric(name, step_metric=f"{name}:step")
        run.log({name: value, f"{name}:step": step})

    return Tracker(log, lambda finished: run.finish(exit_code=0 if finished else 1))
