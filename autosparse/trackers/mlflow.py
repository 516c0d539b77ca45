"""MLflow: a run with parameters and metrics, where `MLFLOW_TRACKING_URI` or `uri` says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Annotated, Any

from autosparse.trackers._base import Followed, trackers

_NO_NAME = re.compile(r"[^\w./ -]")  # what MLflow takes in no name
_LONGEST, _MOST, _LONGEST_NAME = 500, 100, 250  # of a parameter's text, of parameters at once, of a name's text
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|databricks(-uc)?$|uc$")


class _Run:
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(self._run, _named(name), value, step=step)

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


@trackers.register(package="mlflow")
def mlflow(
    followed: Followed,
    *,
    uri: Annotated[str, "of the tracking server or folder; by default MLflow's own setting"] = "",
    experiment: Annotated[str, "that the run belongs to"] = "autosparse",
) -> _Run:
    """A run of MLflow, with the spec's settings as parameters."""
    library: Any = importlib.import_module("mlflow")  # it has no types where it is not installed
    client = library.MlflowClient(_address(uri) or None)
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    run = client.create_run(place, run_name=followed.name).info.run_id
    settings = {_named(name): str(value)[:_LONGEST] for name, value in followed.settings.items()}
    params = [library.entities.Param(name, value) for name, value in settings.items() if value]
    for first in range(0, len(params), _MOST):
        client.log_batch(run, params=params[first : first + _MOST])
    return _Run(client, run)


def _address(uri: str) -> str:
    # MLflow reads a folder's path as a part of a URI: `%2F` in it would be a slash.
    return uri if not uri or _URI.match(uri) else Path(uri).expanduser().absolute().as_uri()


def _named(name: str) -> str:
    # MLflow refuses a name that, as a path, is another or leads out of its folder.
    parts = (part for part in _NO_NAME.sub("_", name).split("/") if part not in ("", ".", ".."))
    return "/".join(parts)[:_LONGEST_NAME].rstrip("/")
