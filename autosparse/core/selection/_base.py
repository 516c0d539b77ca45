"""Which weights each layer keeps: scores and quotas -> masks with exactly that many ones.

A selection is `(scores, quotas, evidence) -> masks` for all layers, name -> tensor, so that it may look at how they are
joined; -inf marks weights that are gone. What it costs is stated with the registration, in SynFlow passes
(`flows_per_layer`); one with the fact `blind` looks at no score, one with `plain` at nothing else, one with `draws`
takes random numbers, and one with `tuned` is what the scorer came with.
"""

from collections.abc import Callable
from typing import TypeAlias

from autosparse.core.weights import Tensors
from autosparse.registry import Registry

Selection: TypeAlias = Callable[..., Tensors]
selections: Registry[Selection] = Registry("selection", "selections")
