"""The sections `irp`, `scorer`, `tuning` and `ticket`: sources of labels and tickets, the scorer, its tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WrapValidator
from pydantic_core import PydanticCustomError

from autosparse.core.ranking import Objective, Split
from autosparse.core.training.recipe import MOST_EPOCHS
from autosparse.core.training.under_masks import at_defaults
from autosparse.pretrained import pretrained_scorers
from autosparse.spec.choices import (
    Choice,
    DatasetChoice,
    ModelChoice,
    ScorerChoice,
    Seed,
    Seeds,
    SelectionChoice,
    Training,
    about,
)
from autosparse.spec.diagnostics import refusal
from autosparse.spec.method import Method
from autosparse.spec.section import Different, Rule, Section, go_on
from autosparse.spec.target import checked, read_seconds
from autosparse.steps.tuning.study import WILCOXON_FOLDS, Pruner, Sampler
from autosparse.text import quoted

MOST_ROUNDS = 1000


def whole(value: float) -> float:
    """Return a whole number as an int: 2.0 epochs are 2."""
    return int(value) if float(value).is_integer() else value


class Irp(Section):
    """Iterative rewind pruning: the source of the labels that the scorer learns from."""

    model: Annotated[ModelChoice | None, about("network that is pruned in rounds; default: the spec's `model`")] = None
    models: Annotated[
        tuple[ModelChoice, ...],
        Different(),
        about("several source networks instead of `model`, each at every seed; the scorer learns from all of them"),
    ] = ()
    dataset: Annotated[DatasetChoice | None, about("training set of the rounds; default: the spec's `dataset`")] = None
    rounds: Annotated[
        Annotated[int, Ge(1), Le(MOST_ROUNDS)] | Literal["auto"],
        about(
            "number of rounds of training, pruning and rewinding; auto: 16, more if the scorer learns nothing from "
            "those, fewer to fit `target.time`"
        ),
    ] = "auto"
    epochs: Annotated[
        Annotated[int | float, Gt(0), Le(MOST_EPOCHS), AfterValidator(whole)] | Literal["auto"],
        about("epochs of a round; auto: those of its recipe, fewer to fit `target.time`"),
    ] = "auto"
    per_round: Annotated[float, Gt(0), Lt(1), about("fraction of the weights removed per round")] = 0.25
    per_round_of: Annotated[
        Literal["remaining", "all"],
        about("base of `per_round`: `remaining` weights (exponential schedule) or `all` weights (linear schedule)"),
    ] = "remaining"
    rank_by: Annotated[
        Literal["magnitude", "magnitude_increase", "movement", "snip"],
        about("ranking of the trained weights: |w|, |w| - |w0|, |w - w0| (Zhou et al. 2019) or |w g|"),
    ] = "magnitude"
    rewind_to: Annotated[
        int,
        Ge(0),
        about("training step that rounds rewind to; 0: initialization (later steps: Frankle et al. 2020)"),
    ] = 0
    seeds: Annotated[Seeds, about("random seeds, one IRP run each")] = (100,)
    training: Annotated[Training | None, about("training recipe of every round; default: the spec's `training`")] = None

    @property
    def networks(self) -> tuple[Choice, ...]:
        """The networks that IRP prunes in rounds, for a resolved spec."""
        return self.models or ((self.model,) if self.model is not None else ())

    def left_after(self, rounds: int) -> float:
        """Return the share of the weights left after this number of rounds."""
        return 1 - rounds * self.per_round if self.per_round_of == "all" else (1 - self.per_round) ** rounds

    def rules(self) -> tuple[Rule, ...]:
        return (self._one_way, self._published_recipe)

    def _one_way(self) -> Iterator[PydanticCustomError]:
        if self.models and self.model is not None:
            yield refusal("and `model` exclude each other", "write all networks into `models`", ("models",))

    def _published_recipe(self) -> Iterator[PydanticCustomError]:
        for name, usual in at_defaults().items() if self.training is not None else ():
            if (value := getattr(self.training, name)) != usual:
                rule = f"must be {quoted(usual)} in rounds of IRP, whose labels come from plain training"
                hint = f"`training.{name}` applies to the compared networks"
                yield refusal(f"{rule}, but is {quoted(value)}", hint, ("training", name))


class Pretrained(Section):
    """A scorer trained earlier: the plan then contains no IRP and no tuning."""

    unknown: ClassVar[str | None] = "a pretrained scorer keeps the options that it was trained with"

    pretrained: Annotated[
        str,
        MinLen(1),
        Field(
            description="a bundled scorer, such as cifar-v1, or the `scorer` folder of a finished run, "
            "relative to this spec"
        ),
    ]


def scorer_kind(value: Any) -> str:
    """Return the kind of a spec's `scorer`: `folder` of a trained one, or `choice` of one to train."""
    named = isinstance(value, Mapping) and "pretrained" in value
    return "folder" if named or isinstance(value, Pretrained) else "choice"


def _not_a_name(value: Any) -> Any:
    if isinstance(value, str) and value in pretrained_scorers():
        message = f"must be a scorer but is {quoted(value)}, which has been trained"
        raise refusal(message, f"such as `scorer: {{pretrained: {value}}}`")
    return value


Scorer = Annotated[
    Annotated[ScorerChoice, Tag("choice")] | Annotated[Pretrained, Tag("folder")],
    Discriminator(scorer_kind),
    BeforeValidator(_not_a_name),
]


class Ticket(Section):
    """The ticket of methods with criterion `order`: the network, the data and the method that it is found by."""

    folder: Annotated[
        str | None,
        about("a ticket found earlier: the `ticket` folder of a finished run, relative to this spec"),
    ] = None
    model: Annotated[ModelChoice | None, about("network of the ticket; default: the spec's `model`")] = None
    dataset: Annotated[DatasetChoice | None, about("images of the ticket; default: the spec's `dataset`")] = None
    method: Annotated[
        Method,
        about("mask search, or irp, that finds the ticket; its `horizon` is a share of one training on those images"),
    ] = Field(
        default={"name": "searched", "preset": "mask_search", "allocation": "igq", "horizon": "100%"},
        validate_default=True,
    )
    sparsities: Annotated[
        tuple[Annotated[float, Gt(0), Lt(1), WrapValidator(go_on)], ...],
        MinLen(1),
        Different(),
        about("sparsities that the search stops at; its order has masks for all others too"),
    ] = (0.9, 0.95, 0.98, 0.99)
    seed: Annotated[Seed, about("random seed of the ticket's initial weights and of its training")] = 300
    rewind_to: Annotated[
        int,
        Ge(0),
        about(
            "training step whose weights the search begins with, and which are the ticket's initial weights; for irp "
            "write `irp.rewind_to` (early rewinding: Frankle et al. 2020)"
        ),
    ] = 0
    initialize: Annotated[bool, about("start the pruned networks from the ticket's initial weights")] = True

    @classmethod
    def expanded(cls, value: Any) -> Any:
        return {"folder": value} if isinstance(value, str) else value

    def rules(self) -> tuple[Rule, ...]:
        return (self._finds, self._found)

    def _found(self) -> Iterator[PydanticCustomError]:
        others = [name for name in type(self).model_fields if name in self.model_fields_set - {"folder", "initialize"}]
        if self.folder is not None and others:
            yield refusal("is a ticket found earlier, which has it already", "remove one of them", (others[0],))

    def _finds(self) -> Iterator[PydanticCustomError]:
        method = self.method
        hint = "a mask search, such as `{preset: mask_search, horizon: 100%}`, or irp"
        if method.needs and not method.needs_rounds:
            yield refusal(f"`{method.name}` needs {method.needs}, which a ticket has not", hint, ("method",))
        elif not (method.needs_rounds or (method.searches and not (method.has_unit or method.updates_masks))):
            yield refusal(f"`{method.name}` learns no order of the weights", hint, ("method",))
        elif method.needs_rounds and self.rewind_to:
            yield refusal("is for a search; IRP rewinds to its own step", "write `irp.rewind_to`", ("rewind_to",))
        elif not method.selection.entry.facts.get("plain"):
            message = f"selection `{method.selection.name}` does not keep the highest scores"
            yield refusal(message, "such as `selection: top`", ("method", "selection"))


class Proxy(Section):
    """A brief training in every trial: the first network of `irp`, pruned by the method with the trial's scorer."""

    weight: Annotated[
        float,
        Ge(0),
        Le(1),
        about("weight of the validation accuracy in a trial's value, the rest being `objective`; 0 trains nothing"),
    ] = 0.5
    sparsity: Annotated[float, Gt(0), Lt(1), about("sparsity of the pruned network")] = 0.95
    epochs: Annotated[int | float, Gt(0), AfterValidator(whole), about("epochs, by the recipe of `irp`")] = 1
    seed: Annotated[Seed, about("random seed of the initialization; different from `seeds` and `irp.seeds`")] = 200


class Tuning(Section):
    """Tuning of the scorer's options with Optuna."""

    trials: Annotated[
        Annotated[int, Ge(0), Le(100_000)] | Literal["auto"],
        about(
            "number of trials; the first uses the scorer's defaults; auto: 20, fewer to fit `target.time`, or as many "
            "as fit `time`; none if no option is tunable"
        ),
    ] = "auto"
    time: Annotated[
        Annotated[str, BeforeValidator(checked(read_seconds, "unlimited"))],
        about(
            "time limit of all trials, such as `10min`; a plan converts it to a number of trials, at most `trials` "
            "(500 if that is auto)"
        ),
    ] = "unlimited"
    options: Annotated[
        tuple[str, ...] | Literal["auto"],
        about(
            "scorer options to tune; auto: every tunable option that `scorer` does not set, except those, such as "
            "a loss, that must be named here"
        ),
    ] = "auto"
    folds: Annotated[int, Ge(2), Le(100), about("number of cross-validation folds of a trial")] = 3
    split: Annotated[
        Split,
        about("held-out unit of cross-validation; `seeds` and `networks` need several of them in `irp`"),
    ] = "layers"
    objective: Annotated[
        Objective | Literal["auto"],
        about(
            "objective of a trial: rank correlation over all weights (`rank`) or within layers (`rank_within`), "
            "precision on IRP's survivors, its gain over layer quotas alone (`beyond_quotas`), or the fraction of "
            "survivors within quotas (`quotas`); auto: `quotas` for a scorer of quotas, else `rank`"
        ),
    ] = "auto"
    proxy: Annotated[
        Proxy | None,
        about("short proxy training as a part of the objective; default: none"),
    ] = None
    selections: Annotated[
        tuple[SelectionChoice, ...],
        Different(),
        about(
            "selections that trials compare by their proxy; the scorer stores the best, which selection `tuned` uses"
        ),
    ] = ()
    sampler: Annotated[Sampler, about("Optuna sampler: Parzen estimator (TPE), random or Gaussian process")] = "tpe"
    pruner: Annotated[
        Pruner,
        about(
            "Optuna pruner, which stops a trial after a fold: below the median of finished trials, or below the best "
            "trial by Wilcoxon's signed-rank test"
        ),
    ] = "none"
    parallel: Annotated[
        int,
        Ge(1),
        Le(1000),
        about("number of trials per batch, which can run in parallel; each sees only the results of earlier batches"),
    ] = 1
    seed: Annotated[Seed, about("random seed of the sampler and of the scorer's training")] = 0

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds, or None for unlimited."""
        return None if self.time == "unlimited" else read_seconds(self.time)


def check_split(tuning: Tuning, irp: Irp) -> Iterator[PydanticCustomError]:
    """Require a part to hold out and a part left to learn from."""
    if tuning.trials == 0:
        return
    problem = None
    if tuning.split == "seeds" and len(irp.seeds) < 2:
        problem = "one of `irp.seeds`", "such as `irp: {seeds: [100, 101]}`"
    if tuning.split == "networks" and len(irp.models) < 2:
        problem = "one network in `irp`", "such as `irp: {models: [resnet8, lenet]}`"
    if problem:
        has, hint = problem
        yield refusal(f"holds {tuning.split} out, but there is {has}", hint, ("tuning", "split"))


def check_folds(tuning: Tuning, irp: Irp) -> Iterator[PydanticCustomError]:
    """Require enough folds for the pruner."""
    if tuning.trials == 0 or tuning.pruner != "wilcoxon":
        return
    parts = {"layers": tuning.folds, "seeds": len(irp.seeds), "networks": len(irp.models)}[tuning.split]
    if (folds := min(tuning.folds, parts)) < WILCOXON_FOLDS and (tuning.split == "layers" or parts > 1):
        message = f"wilcoxon needs {WILCOXON_FOLDS} folds to stop a trial, but has {folds}"
        yield refusal(message, f"such as `folds: {WILCOXON_FOLDS}`, or `pruner: median`", ("tuning", "pruner"))


def check_proxy(tuning: Tuning, irp: Irp, seeds: Sequence[int], *, same: bool) -> Iterator[PydanticCustomError]:
    """Reject a proxy that scorers learn from or, if it is the `same` network, are compared on."""
    proxy = tuning.proxy
    if proxy is None or not proxy.weight or tuning.trials == 0:
        return
    used = {"irp.seeds": ("it learned from", irp.seeds), "seeds": ("it is judged on", seeds if same else ())}
    for path, (why, others) in used.items():
        if proxy.seed in others:
            free = next(seed for seed in count(proxy.seed + 1) if seed not in (*irp.seeds, *seeds))
            message = f"begins at seed {proxy.seed}, one of `{path}`: a network {why} would choose the scorer"
            yield refusal(message, f"such as `proxy: {{seed: {free}}}`", ("tuning", "proxy"))
            return


def check_selections(
    tuning: Tuning, method: str, selection: SelectionChoice, *, searches: bool
) -> Iterator[PydanticCustomError]:
    """Require a method and a proxy for which selections can be tuned."""
    number = len(tuning.selections)
    if not number or tuning.trials == 0:
        return
    problem = None
    if tuning.proxy is None or not tuning.proxy.weight:
        problem = "are compared by a proxy's training, but there is none", "such as `proxy: {weight: 0.5}`"
    elif not selection.entry.facts.get("tuned"):
        message = f"are for a method with selection `tuned`, but {method} has {selection.name}"
        problem = message, "such as `method: learned`"
    elif searches:
        message = f"choose weights at once, but {method} ends with those that its search learned"
        problem = message, "such as `method: learned`"
    elif any(choice.entry.facts.get("tuned") for choice in tuning.selections):
        problem = "name `tuned`, which is what they are for", "such as `[top, random]`"
    elif tuning.trials != "auto" and tuning.trials < number:
        message = f"are {number}, each to be tried once, but `trials` is {tuning.trials}"
        problem = message, f"such as `trials: {3 * number}`"
    if problem:
        yield refusal(*problem, ("tuning", "selections"))
