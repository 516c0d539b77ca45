"""The section `tuning`: how Optuna tunes the scorer, and where a trial is scored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator

from autosparse.core.ranking import Objective, Split
from autosparse.spec.choices import Section, Seed, SelectionChoice, about, different
from autosparse.spec.diagnostics import refusal
from autosparse.spec.irp import Irp, whole
from autosparse.spec.target import checked, read_seconds
from autosparse.steps.study import WILCOXON_FOLDS, Pruner, Sampler


class Proxy(Section):
    """A brief training in every trial: the first network of `irp`, pruned by the method with the trial's scorer."""

    weight: Annotated[
        float,
        Ge(0),
        Le(1),
        about("of the validation accuracy in a trial's value, against `objective`; with 0 nothing is trained"),
    ] = 0.5
    sparsity: Annotated[float, Gt(0), Lt(1), about("to which it is pruned")] = 0.95
    epochs: Annotated[
        int | float, Gt(0), AfterValidator(whole), about("passes over the training set, by the recipe of `irp`")
    ] = 1
    seed: Annotated[Seed, about("of its initialization: none that labels come from, nor one that is compared")] = 200


class Tuning(Section):
    """How Optuna tunes the scorer."""

    trials: Annotated[
        Annotated[int, Ge(0), Le(100_000)] | Literal["auto"],
        about(
            "proposals; the first is the scorer's defaults; auto is 20, fewer under `target.time`, or as many as fit "
            "into `time`; none where nothing is tuned"
        ),
    ] = "auto"
    time: Annotated[
        Annotated[str, BeforeValidator(checked(read_seconds, "unlimited"))],
        about(
            "how long trials may take, such as `10min`: a plan makes a number of them of it, never above `trials`, or "
            "500 where that is auto"
        ),
    ] = "unlimited"
    options: Annotated[
        tuple[str, ...] | Literal["auto"],
        about(
            "scorer options to tune; auto: every tunable one that `scorer` does not set, but for those, such as a "
            "loss, that are tuned only where they are named here"
        ),
    ] = "auto"
    folds: Annotated[int, Ge(2), Le(100), about("in how many parts layers are held out when a trial is scored")] = 3
    split: Annotated[
        Split, about("what is held out when a trial is scored: `seeds` and `networks` need several of them in `irp`")
    ] = "layers"
    objective: Annotated[
        Objective | Literal["auto"],
        about(
            "what a trial is scored by: rank correlation of all weights or inside layers, the share of IRP's survivors "
            "that is found, how much more of them than the layers' numbers alone would find, or the share for which "
            "their layers' quotas have room; auto is the last for a scorer of quotas, else the first"
        ),
    ] = "auto"
    proxy: Annotated[
        Proxy | None,
        about("a brief training in every trial, as a part of what it is scored by; by default there is none"),
    ] = None
    selections: Annotated[
        tuple[SelectionChoice, ...],
        AfterValidator(different),
        about(
            "selections that trials compare by their proxy; the scorer keeps the best, and selection `tuned` takes it"
        ),
    ] = ()
    sampler: Annotated[Sampler, about("Optuna's: tree-structured Parzen estimator, random, or Gaussian process")] = (
        "tpe"
    )
    pruner: Annotated[
        Pruner,
        about(
            "Optuna's, which stops a trial after a fold: one below the median of the finished ones, or below the best "
            "of them by Wilcoxon's signed-rank test"
        ),
    ] = "none"
    parallel: Annotated[
        int,
        Ge(1),
        Le(1000),
        about(
            "trials in a batch: each knows the results of the batches before, none of its own, so all can run at once"
        ),
    ] = 1
    seed: Annotated[Seed, about("of the proposals and of the scorer's training")] = 0

    @property
    def seconds(self) -> float | None:
        """The limit of time that was written, or None."""
        return None if self.time == "unlimited" else read_seconds(self.time)


def check_split(tuning: Tuning, irp: Irp) -> None:
    """Whether there is something to hold out and something left, often enough. Raises PydanticCustomError."""
    if tuning.trials == 0:
        return
    if tuning.split == "seeds" and len(irp.seeds) < 2:
        _refuse(tuning, "one of `irp.seeds`", "such as `irp: {seeds: [100, 101]}`")
    if tuning.split == "networks" and len(irp.models) < 2:
        _refuse(tuning, "one network in `irp`", "such as `irp: {models: [resnet8, lenet]}`")
    parts = {"layers": tuning.folds, "seeds": len(irp.seeds), "networks": len(irp.models)}[tuning.split]
    if tuning.pruner == "wilcoxon" and (folds := min(tuning.folds, parts)) < WILCOXON_FOLDS:
        raise refusal(
            f"wilcoxon needs {WILCOXON_FOLDS} folds to stop a trial, but has {folds}",
            f"such as `folds: {WILCOXON_FOLDS}`, or `pruner: median`",
            ("tuning", "pruner"),
        )


def check_proxy(tuning: Tuning, irp: Irp, seeds: Sequence[int], *, same: bool) -> None:
    """Whether the proxy is a network of its own. Raises PydanticCustomError.

    `same` says whether the network that is compared at `seeds` is its network.
    """
    proxy = tuning.proxy
    if proxy is None or not proxy.weight or tuning.trials == 0:
        return
    used = {"irp.seeds": ("it learned from", irp.seeds), "seeds": ("it is judged on", seeds if same else ())}
    for path, (why, others) in used.items():
        if proxy.seed in others:
            free = next(seed for seed in count(proxy.seed + 1) if seed not in (*irp.seeds, *seeds))
            raise refusal(
                f"begins at seed {proxy.seed}, one of `{path}`: a network {why} would choose the scorer",
                f"such as `proxy: {{seed: {free}}}`",
                ("tuning", "proxy"),
            )


def check_selections(tuning: Tuning, method: str, selection: SelectionChoice, *, searches: bool) -> None:
    """Whether selections can be tuned for the method whose proxy is trained. Raises PydanticCustomError."""
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
        raise refusal(*problem, ("tuning", "selections"))


def _refuse(tuning: Tuning, has: str, hint: str) -> None:
    raise refusal(f"holds {tuning.split} out, but there is {has}", hint, ("tuning", "split"))
