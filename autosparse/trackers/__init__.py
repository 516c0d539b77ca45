"""Experiment trackers by name."""

from autosparse.trackers import mlflow, tensorboard, wandb
from autosparse.trackers._base import Followed, Tracker, trackers

__all__ = ["Followed", "Tracker", "mlflow", "tensorboard", "trackers", "wandb"]
