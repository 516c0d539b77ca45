"""Criteria: evidence about a network at initialization -> scores, name -> tensor; higher is kept."""

# Lists show the criteria in the order of these imports.
# isort: off
from autosparse.core.criteria._base import Parts, ScoringMode, criteria
from autosparse.core.criteria.survival import irp, learned, order
from autosparse.core.criteria.sensitivity import grasp, prospr, snip
from autosparse.core.criteria.curvature import fisher, hutchinson
from autosparse.core.criteria.tangent_kernel import ntk_sap, px
from autosparse.core.criteria.data_free import magnitude, random, synflow

__all__ = [
    "Parts", "ScoringMode", "criteria", "fisher", "grasp", "hutchinson", "irp", "learned", "magnitude", "ntk_sap",
    "order", "prospr", "px", "random", "snip", "synflow",
]  # fmt: skip
