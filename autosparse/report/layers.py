"""Where the weights went: how much of each layer a method keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.report.finished import Finished

LEAST = 1e-3
"""share of a layer that is drawn as nothing"""


@dataclass(frozen=True)
class LayerShare:
    """A layer's weights, those that a mask keeps, and those of them on a path from input to output, if it was told."""

    name: str
    size: int
    kept: int
    effective: int | None = None


@dataclass(frozen=True)
class Profile:
    """The layers of a method's network within a budget, in order; of the first seed."""

    method: str
    budget: str
    seed: int
    layers: Sequence[LayerShare]


def describe_profiles(finished: Finished) -> list[Profile]:
    """The profiles of every method and budget; controls keep as many weights in every layer as their method."""
    profiles = []
    for cell in finished.cells:
        if cell.role in ("method", "compared") and cell.seed == finished.plan.spec.seeds[0]:
            layers = finished.open(cell.evaluate).json("result")["layers"]
            shares = [LayerShare(one["name"], one["size"], one["kept"], one.get("effective")) for one in layers]
            profiles.append(Profile(cell.method, cell.budget, cell.seed, shares))
    return profiles
