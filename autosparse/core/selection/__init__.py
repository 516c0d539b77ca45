"""Selections by name: each fills the layers' quotas with weights."""

from autosparse.core.selection import channels, random, top
from autosparse.core.selection._base import Selection, keep_top, ranks_of, selections

__all__ = ["Selection", "channels", "keep_top", "random", "ranks_of", "selections", "top"]
