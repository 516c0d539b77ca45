"""autosparse: a declarative compiler for pruning neural networks at initialization.

Public names are resolved on first use (PEP 562): `import autosparse` imports neither torch nor pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from autosparse.packaged import __version__

if TYPE_CHECKING:
    from autosparse.api.export import export as export
    from autosparse.api.load import load as load
    from autosparse.api.masks import Masks as Masks
    from autosparse.api.prune import prune as prune
    from autosparse.api.prune import score as score
    from autosparse.api.runs.plan import Plan as Plan
    from autosparse.api.runs.plan import plan as plan
    from autosparse.api.runs.report import Report as Report
    from autosparse.api.runs.run import run as run
    from autosparse.api.sparse_training import sparse_training as sparse_training
    from autosparse.errors import AutosparseError as AutosparseError
    from autosparse.errors import AutosparseWarning as AutosparseWarning
    from autosparse.spec import Spec as Spec
    from autosparse.spec import load_spec as load_spec
    from autosparse.store import Store as Store

__all__ = [
    "AutosparseError", "AutosparseWarning", "Masks", "Plan", "Report", "Spec", "Store", "__version__", "export",
    "load", "load_spec", "plan", "prune", "run", "score", "sparse_training",
]  # fmt: skip

_HOMES = {
    "autosparse.api": ("Masks", "Plan", "Report", "export", "load", "plan", "prune", "run", "score", "sparse_training"),
    "autosparse.errors": ("AutosparseError", "AutosparseWarning"),
    "autosparse.spec": ("Spec", "load_spec"),
    "autosparse.store": ("Store",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
