"""The published methods as points of the four choices: criterion, allocation, selection, schedule."""

from __future__ import annotations

from typing import Any, TypeAlias

Method: TypeAlias = "dict[str, Any]"


def _method(criterion: str, allocation: str, selection: str, schedule: Any = "one_shot") -> Method:
    return {"criterion": criterion, "allocation": allocation, "selection": selection, "schedule": schedule}


PRESETS: dict[str, tuple[str, Method]] = {
    "learned": ("the scorer's predictions", _method("learned", "global", "top")),
    "random": ("uniform sparsity, random weights", _method("random", "uniform", "top")),
    "erk": ("Erdős-Rényi kernel quotas, random weights", _method("random", "erk", "top")),
    "magnitude": ("the largest initial weights", _method("magnitude", "global", "top")),
    "snip": ("Lee et al. 2019", _method("snip", "global", "top")),
    "grasp": ("Wang et al. 2020", _method("grasp", "global", "top")),
    "synflow": (
        "Tanaka et al. 2020",
        _method("synflow", "global", "top", {"name": "exponential", "rounds": 100}),
    ),
    "npb": (
        "Pham et al. 2023: Erdős-Rényi kernel quotas, most channels, then paths",
        _method("random", "erk", "paths"),
    ),
}
"""Preset -> (help, method)."""

CONTROLS: dict[str, tuple[str, Method]] = {
    "shuffle": ("the same quotas, filled at random", {"selection": "random"}),
    "layer_mean": (
        "only the mean score of each layer, filled at random",
        {"allocation": "layer_mean", "selection": "random"},
    ),
}
"""What a method must beat to have learned more than quotas: control -> (help, what it replaces in the method)."""
