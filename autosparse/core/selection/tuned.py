"""What goes with the scorer."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.evidence import Evidence
from autosparse.core.selection import selections
from autosparse.core.selection.top import top
from autosparse.core.weights import Tensors


@selections.register(tuned=True)
def tuned(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """The selection that goes with the scorer: tuned, of `tuning.selections`, or that of its kind."""
    chosen = evidence.scorer.select if evidence.scorer else None
    return (chosen or top)(scores, quotas, evidence)
