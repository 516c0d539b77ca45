"""Orders of all weights that steps leave: of one search for all budgets, and of tickets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from autosparse.core.evidence import Evidence
from autosparse.core.ticket import Ticket
from autosparse.core.weights import Tensors, keep_count, total_of
from autosparse.lazy_torch import torch
from autosparse.steps._base import Content, Count, KeyedChoice, Positive, Share, StateResult, StepResult, finite
from autosparse.store import Artifact
from autosparse.text import listed


@dataclass(frozen=True)
class StagesResult(StepResult):
    """The sparsities of one search, ascending, and the weights that each layer keeps at each of them."""

    total: Positive
    sparsities: list[Share]
    kept: list[dict[str, Count]]
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Compare counts with sparsities, and masks with those before."""
        self.require(len(self.kept) == len(self.sparsities) > 0, "result.json: `kept` is not one for each sparsity")
        before = self.kept[0]
        for sparsity, counts in zip(self.sparsities, self.kept, strict=True):
            fits = sum(counts.values()) == keep_count(self.total, sparsity) and {*counts} == {*before}
            fits = fits and all(count <= before[name] for name, count in counts.items())
            self.require(fits, f"result.json: `kept` is not that of sparsity {sparsity:g} below the one before")
            before = counts

    @Content
    def order(self) -> Tensors:
        """Order of the weights within each layer: the highest `kept` of a sparsity are its mask."""
        order = finite(self, "order")
        fits = {*order} == {*self.kept[0]} and total_of(order) == self.total
        self.require(fits, "order.safetensors: not the layers and weights of result.json")
        return order

    def quotas(self, sparsity: float) -> Mapping[str, int] | None:
        """Return the weights that each layer keeps at a sparsity; None for one that the search did not stop at."""
        return dict(zip(self.sparsities, self.kept, strict=True)).get(sparsity)


@dataclass(frozen=True)
class TicketResult(StateResult):
    """Initial weights with an order of all weights: the network that it was found on, its seed, and how."""

    FILE: ClassVar[str] = "ticket"
    model: KeyedChoice
    shape: tuple[Positive, Positive, Positive]
    classes: Positive
    seed: Count
    total: Positive
    made_by: Literal["search", "irp"]
    sparsities: list[Share]
    """those that the search stopped at, or that the rounds left"""

    @Content
    def order(self) -> Tensors:
        """Order of the weights within each layer; higher is kept."""
        order = finite(self, "order")
        fits = bool(order) and total_of(order) == self.total
        fits = fits and all(name in self.state and self.state[name].shape == part.shape for name, part in order.items())
        self.require(fits, "order.safetensors: not the weights of state.safetensors")
        return order

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Ticket:
        """Return the part of the ticket that fits a network with this initial state."""
        return Ticket(self.state, self.order, self.classes).fitted(state)


def in_given_order(
    artifact: Artifact, evidence: Evidence, sparsity: float
) -> tuple[Evidence, Mapping[str, int] | None]:
    """Return evidence with the order of a search or a ticket, and a search's quotas at a sparsity that it stopped at.

    Raises DamagedArtifact for the search of another network. A ticket may lack layers.
    """
    if "ticket.json" in artifact.files:
        fitted = TicketResult.read(artifact).fitted(evidence.model.state_dict())
        for note in fitted.notes:
            evidence.note(note)
        if new := [name for name in evidence.weights if name not in fitted.order]:
            evidence.note(f"the ticket has no {listed(new)}: pruned at random there")
        return replace(evidence, survival=fitted.order), None
    result = StagesResult.read(artifact)
    shapes = {name: weight.shape for name, weight in evidence.weights.items()}
    fits = {name: part.shape for name, part in result.order.items()} == shapes
    result.require(fits, "order.safetensors: not the weights of the network")
    return replace(evidence, survival=result.order), result.quotas(sparsity)
