"""Metrics for other programs: what each receives, and that a run continues without them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autosparse.execute import Failed, Finished, Tracking
from autosparse.trackers import Followed, _address, _named, trackers


class Library:
    """Stand-in for TensorBoard, MLflow and W&B that records its calls."""

    def __init__(self, *, fails: bool = False) -> None:
        self.logged: list[tuple[str, float, int]] = []
        self.settings: dict[str, str] = {}
        self.ended: list[Any] = []
        self.fails = fails

    def put(self, name: str, value: float, step: int) -> None:
        """One number."""
        if self.fails:
            raise ConnectionError("the server is gone\nand more")
        self.logged.append((name, value, step))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """In place of all three."""
        writer: Any = SimpleNamespace(
            add_scalar=self.put,
            add_text=lambda name, text: self.settings.update(text=text),
            close=lambda: self.ended.append("closed"),
        )
        client = SimpleNamespace(
            get_experiment_by_name=lambda name: None,
            create_experiment=lambda name: "1",
            create_run=lambda workspace, run_name: SimpleNamespace(info=SimpleNamespace(run_id="r")),
            log_batch=lambda run, params: self.settings.update(params),
            log_metric=lambda run, name, value, step: self.put(name, value, step),
            set_terminated=lambda run, status: self.ended.append(status),
        )

        def log(printed: dict[str, Any]) -> None:
            (name, value), (_, step) = printed.items()
            self.put(name, value, step)

        def begin(config: dict[str, Any], **rest: Any) -> Any:
            self.settings.update(config)
            return SimpleNamespace(
                define_metric=lambda name, step_metric: None,
                log=log,
                finish=lambda exit_code: self.ended.append(exit_code),
            )

        libraries: dict[str, Any] = {
            "torch.utils.tensorboard": SimpleNamespace(SummaryWriter=lambda folder: writer),
            "mlflow": SimpleNamespace(
                MlflowClient=lambda uri: client, entities=SimpleNamespace(Param=lambda name, value: (name, value))
            ),
            "wandb": SimpleNamespace(init=begin, Settings=lambda **rest: None),
        }
        for name, library in libraries.items():
            patch.setitem(sys.modules, name, library)


def follow(tmp_path: Path, name: str, notes: list[str]) -> Tracking:
    """An observer with one tracker."""
    followed = Followed("digits-1", tmp_path, {"training.lr": 0.2, "odd name!": "x" * 900, "empty": ""})
    return Tracking([(name, {})], followed, notes.append)


@pytest.mark.parametrize("name", trackers.names)
def test_every_tracker_is_told_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Rounds, trials and seeds are steps of one curve, the losses of a training a curve of their own."""
    library, notes = Library(), list[str]()
    library.install(monkeypatch)
    with follow(tmp_path, name, notes) as tracking:
        tracking.on_event(Finished("irp/seed100/round3", "run", 1.0, {"validation_accuracy": 97.0}))
        tracking.on_event(Finished("trial/4", "run", 1.0, {"value": 0.5}))
        tracking.on_event(Finished("train/erk/0.9/seed0", "run", 1.0, {"losses": [2.0, 1.0]}))
        tracking.on_event(Finished("irp/seed100/round2", "reuse", 0.0, {"validation_accuracy": 98.0}))
        tracking.log("irp/seed100/round2", {"validation_accuracy": 98.0})

    assert [] == notes
    assert [
        ("irp/seed100/round/validation_accuracy", 97.0, 3),
        ("trial/value", 0.5, 4),
        ("train/erk/0.9/seed0/losses", 2.0, 0),
        ("train/erk/0.9/seed0/losses", 1.0, 1),
        ("irp/seed100/round/validation_accuracy", 98.0, 2),
    ] == library.logged
    assert 1 == len(library.ended)
    assert "0.2" in str(library.settings)


@pytest.mark.parametrize(("name", "ended"), [("tensorboard", "closed"), ("mlflow", "KILLED"), ("wandb", 1)])
def test_trackers_know_of_a_failed_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ended: object
) -> None:
    """A run with a failure has not come to its end, though it went on."""
    library = Library()
    library.install(monkeypatch)
    with follow(tmp_path, name, []) as tracking:
        tracking.on_event(Failed("trial/0", "step `trial/0` failed: odd", ["tune"]))

    assert [ended] == library.ended


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("", ""),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("https://host/a%2Fb", "https://host/a%2Fb"),
        ("file:///a%20b", "file:///a%20b"),
        ("databricks", "databricks"),
        ("/data/job%2Fbranch/a#b", "file:///data/job%252Fbranch/a%23b"),
    ],
)
def test_a_folder_is_no_part_of_a_uri(uri: str, address: str) -> None:
    """MLflow would read `%2F` in the path of a folder as a slash; a URI stays unchanged."""
    assert address == _address(uri)


def test_names_that_mlflow_refuses_are_changed() -> None:
    """As paths they must be themselves, and not too long."""
    assert "model.a/b_c" == _named("model.a/../b?c")
    assert "a/b" == _named("/a//./b/")
    assert 250 == len(_named("x" * 900))


@pytest.mark.parametrize("name", trackers.names)
def test_a_tracker_that_fails_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The warning appears once, in one line."""
    Library(fails=True).install(monkeypatch)
    notes = list[str]()
    with follow(tmp_path, name, notes) as tracking:
        for step in ("trial/0", "trial/1"):
            tracking.on_event(Finished(step, "run", 1.0, {"value": 0.5}))

    assert [f"tracker `{name}` is disabled: ConnectionError: the server is gone"] == notes
