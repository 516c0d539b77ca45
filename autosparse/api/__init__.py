"""Pruning in one call, for people with their own training loop: batches in, masks out, masks held."""

from autosparse.api.masks import LayerSummary, Masks, Summary
from autosparse.api.pruning import prune, score

__all__ = ["LayerSummary", "Masks", "Summary", "prune", "score"]
