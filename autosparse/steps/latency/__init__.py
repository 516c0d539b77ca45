"""The step that measures latencies of a network in a runtime on this machine, and checks of latency budgets."""

from autosparse.steps.latency.check import LatencyCheck, PredictedLatency
from autosparse.steps.latency.step import Conditions, LatencyResult

__all__ = ["Conditions", "LatencyCheck", "LatencyResult", "PredictedLatency"]
