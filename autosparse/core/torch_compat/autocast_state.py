"""Suspension of the caller's autocast: torch clears its cache of cast weights only where the outermost autocast ends.

Inside another autocast, also a disabled one, an autocast of a training loop would keep the casts of its first step, and
later steps would compute with stale weights (`torch/amp/autocast_mode.py`, `__exit__`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autosparse.lazy_torch import torch

_KINDS = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def autocast_suspended() -> Iterator[None]:
    """Run as if outside every autocast of the caller, then restore it, with an empty cache."""
    enabled = {kind: torch.is_autocast_enabled(kind) for kind in _KINDS}
    torch.autocast_increment_nesting()
    level = torch.autocast_decrement_nesting()
    for _ in range(level):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for kind in _KINDS:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        for _ in range(level):
            torch.autocast_increment_nesting()
        for kind, was in enabled.items():
            torch.set_autocast_enabled(kind, was)
