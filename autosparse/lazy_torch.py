"""Stand-ins for torch and numpy that import them on first use, so that plans and help texts never wait for them.

The first attribute access takes the 2 s of importing torch. A proxy, not `importlib.util.LazyLoader`: `sys.modules`
stays unchanged, so other libraries in the process see no half-loaded torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # inspection (doctest, copy, pydantic) must not import anything
            raise AttributeError(name)
        attributes = vars(self)
        if "imported" not in attributes:  # an import statement on every access takes as long as a small torch operation
            attributes["imported"] = importlib.import_module(self.__name__)
        return getattr(attributes["imported"], name)


if TYPE_CHECKING:
    import numpy as numpy
    import torch as torch
else:
    numpy, torch = _LazyModule("numpy"), _LazyModule("torch")
