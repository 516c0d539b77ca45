"""The section `irp`: the source of labels."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, model_validator

from autosparse.core.training.loop import MOST_EPOCHS
from autosparse.spec.choices import Choice, DatasetChoice, ModelChoice, Section, Seeds, Training, about, different
from autosparse.spec.diagnostics import refusal

MOST_ROUNDS = 1000


def whole(value: float) -> float:
    """2.0 epochs are 2."""
    return int(value) if float(value).is_integer() else value


class Irp(Section):
    """Iterative rewind pruning: the source of the labels that the scorer learns from."""

    model: Annotated[
        ModelChoice | None, about("the network that is pruned in rounds; by default the spec's `model`")
    ] = None
    models: Annotated[
        tuple[ModelChoice, ...],
        AfterValidator(different),
        about("several networks in place of `model`, each at every seed: the scorer learns from all of them"),
    ] = ()
    dataset: Annotated[DatasetChoice | None, about("what it trains on; by default the spec's `dataset`")] = None
    rounds: Annotated[
        Annotated[int, Ge(1), Le(MOST_ROUNDS)] | Literal["auto"],
        about(
            "how often it is trained, pruned and rewound; auto is 16, more where the scorer learns nothing from those, "
            "or fewer under `target.time`"
        ),
    ] = "auto"
    epochs: Annotated[
        Annotated[int | float, Gt(0), Le(MOST_EPOCHS), AfterValidator(whole)] | Literal["auto"],
        about("passes over the training set in a round; auto is as in its recipe, or fewer under `target.time`"),
    ] = "auto"
    per_round: Annotated[float, Gt(0), Lt(1), about("share of the weights that a round removes")] = 0.25
    per_round_of: Annotated[
        Literal["remaining", "all"], about("of which weights: `remaining` goes on for ever, `all` is a linear schedule")
    ] = "remaining"
    rank_by: Annotated[
        Literal["magnitude", "magnitude_increase", "movement", "snip"],
        about("what the trained weights are ranked by: |w|, |w| - |w0|, |w - w0| (Zhou et al. 2019) or |w g|"),
    ] = "magnitude"
    rewind_to: Annotated[
        int,
        Ge(0),
        about("step of the training that rounds go back to; 0 is initialization (later ones: Frankle et al. 2020)"),
    ] = 0
    seeds: Annotated[Seeds, about("one IRP for each")] = (100,)
    training: Annotated[Training | None, about("the recipe of every round; by default the spec's `training`")] = None

    @property
    def networks(self) -> tuple[Choice, ...]:
        """The networks that are pruned in rounds, of a resolved spec."""
        return self.models or ((self.model,) if self.model is not None else ())

    def left_after(self, rounds: int) -> float:
        """The share of the weights that so many rounds leave."""
        return 1 - rounds * self.per_round if self.per_round_of == "all" else (1 - self.per_round) ** rounds

    @model_validator(mode="after")
    def _one_way(self) -> Irp:
        if self.models and self.model is not None:
            raise refusal("stands beside `model`", "write all networks into `models`", ("models",))
        return self
