"""Selections by name: each fills the layers' quotas with weights."""

from autosparse.core.selection import channels, shuffle, top
from autosparse.core.selection._base import Selection, keep_top, ranks_of, selections

__all__ = ["Selection", "channels", "keep_top", "ranks_of", "selections", "shuffle", "top"]
