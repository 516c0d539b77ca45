"""Selections by name: each fills the layers' quotas with weights."""

from autosparse.core.selection import balanced, node_path_balance, random, top
from autosparse.core.selection._base import Selection, selections
from autosparse.core.selection.top import keep_top, ranks_of

__all__ = ["Selection", "balanced", "keep_top", "node_path_balance", "random", "ranks_of", "selections", "top"]
