"""What fills layer quotas where a method leaves that to its scorer, by selection `tuned`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from autosparse.core.scorers import scorers
from autosparse.spec.choices import Choice
from autosparse.spec.kinds import SelectionChoice
from autosparse.spec.method import Method
from autosparse.spec.sections import Spec

_TOP = {"name": "top"}


def with_selections(spec: Spec, pretrained: Mapping[str, Any] | None) -> Spec:
    """The spec with the selection that each method's `tuned` stands for, unless its own trials are to choose one.

    `pretrained` is what the folder of its scorer says, if it has one.
    """
    if isinstance(spec.scorer, Choice):
        tried = spec.tuning.selections and spec.tuning.trials
        chosen = None if tried else selection_of({"name": spec.scorer.name})
    else:
        chosen = selection_of(pretrained) if pretrained else None
    compare = tuple(item if isinstance(item, str) else filled(item, chosen) for item in spec.compare)
    return spec.model_copy(update={"method": filled(spec.method, chosen), "compare": compare})


def selection_of(scorer: Mapping[str, Any]) -> dict[str, Any]:
    """The selection, as a spec says it, that goes with a scorer: the one that it was tuned with, or its kind's."""
    if tuned := scorer.get("selection"):
        return {"name": tuned["name"], **tuned.get("options", {})}
    return {"name": scorers[scorer["name"]].facts.get("selection", "top")}


def filled(method: Method, chosen: Mapping[str, Any] | None) -> Method:
    """The method with a choice in place of `tuned`; a mask search ends with the highest of the scores it learned."""
    if not method.selection.entry.facts.get("tuned") or (chosen is None and not method.searches):
        return method
    return method.model_copy(update={"selection": _SELECTION.validate_python(_TOP if method.searches else chosen)})


_SELECTION: TypeAdapter[Any] = TypeAdapter(SelectionChoice)
