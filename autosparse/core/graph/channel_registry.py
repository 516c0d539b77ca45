"""Registry of the rules of channel labels, by the name of an operation, and the parts that rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autosparse.core.graph.channel_labels import constant
from autosparse.core.graph.channel_walk import Walk
from autosparse.lazy_torch import torch

Rule = Callable[[Walk, Any], Any]
RULES: dict[str, Rule] = {}
"""Operation -> function of a walk and a node that returns the labels of its result"""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule of some operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def argument(node: Any, index: int, name: str, default: Any = None) -> Any:
    """Return an argument of a node, given by position or by name."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def unlabelled(node: Any) -> Any:
    """Return the labels of a result that belongs to no channel."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return [constant(part.shape) if isinstance(part, torch.Tensor) else None for part in value]
    return constant(value.shape) if isinstance(value, torch.Tensor) else None


def unknown(walk: Walk, node: Any, reason: str | None = None) -> Any:
    """Keep all channels that an operation reads, because it has no rule or for another reason."""
    for read in node.all_input_nodes:
        walk.fix(walk.of(read), reason)
    return walk.closed(node, reason or walk.reason)


def loses_groups(groups: int, inputs: int) -> bool:
    """Return whether a grouped convolution loses whole groups, rather than the same channels of every group."""
    return groups * groups >= inputs
