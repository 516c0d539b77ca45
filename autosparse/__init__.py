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
    from autosparse.errors import AutosparseError as AutosparseError
    from autosparse.errors import AutosparseWarning as AutosparseWarning
    from autosparse.planning.compile import compile_plan as compile_plan
    from autosparse.spec import load_spec as load_spec
    from autosparse.store import Store as Store

__all__ = [
    "AutosparseError", "AutosparseWarning", "Masks", "Store", "__version__", "compile_plan", "export", "load",
    "load_spec", "prune", "score",
]  # fmt: skip

_HOMES = {
    "autosparse.api": ("Masks", "export", "load", "prune", "score"),
    "autosparse.errors": ("AutosparseError", "AutosparseWarning"),
    "autosparse.planning.compile": ("compile_plan",),
    "autosparse.spec": ("load_spec",),
    "autosparse.store": ("Store",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
