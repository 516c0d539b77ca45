"""Optuna, in memory: a study is rebuilt from its finished trials whenever the next is proposed.

The sampler is seeded by the study and the trial's number, and uses the trials of earlier batches, whatever their order
or process: a killed study, once resumed, proposes exactly the trials of an uninterrupted one.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from autosparse.errors import MissingRequirement, UsageError
from autosparse.steps._base import Count, KeyedChoice, Percent, Real, StepResult
from autosparse.store import digest
from autosparse.store.files import link_new, scratch, sweep

Sampler = Literal["tpe", "random", "gp"]
Pruner = Literal["none", "median", "wilcoxon"]
SELECTION = "selection"
"""The setting of a trial that is no option of its scorer: the item of `tuning.selections` that fills the quotas."""

WILCOXON_FOLDS = 5
"""The fewest folds with which Optuna's Wilcoxon test can stop a trial early: with four, all must be worse."""
Space = Mapping[str, Mapping[str, Any]]
"""The search space: option -> `values`, or `low`, `high` and `log`."""

_TELLING = 4  # fewest trials that show the importance of options


@dataclass(frozen=True)
class Trial:
    """A finished trial: its settings, its value and those of its folds, and whether it was stopped early."""

    settings: Mapping[str, Any]
    value: float
    folds: Sequence[float] = ()
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialResult(StepResult):
    """A trial, its metrics on held-out layers, mean over folds (`core.ranking.HeldOut`), and its proxy."""

    number: Count
    settings: dict[str, Any]
    value: Real
    folds: list[Real]
    stopped: bool
    overall: Real
    within: Real
    precision: Real
    beyond_quotas: Real
    quotas: Real
    validation_accuracy: Percent | None = None
    """validation accuracy of the proxy, in percent"""
    selection: KeyedChoice | None = None

    @property
    def trial(self) -> Trial:
        """The trial in the form that a study uses."""
        return Trial(self.settings, self.value, self.folds, self.stopped)

    def check(self) -> None:
        """Require a setting within the limits for each tuned option, and nothing else."""
        self.require(bool(self.folds), "result.json: `folds` is empty")
        space: Space = self.asked.get("space", {})
        if "space" in self.asked:
            self.require({*space} == {*self.settings}, "result.json: `settings` are not the options of `space`")
        for name, limits in space.items():
            self.require(_is_within(self.settings[name], limits), f"result.json: `settings` has an odd `{name}`")


@dataclass(frozen=True)
class TuneResult(StepResult):
    """The scorer's options with the settings of the best trial that was not stopped, and the selection it chose."""

    options: dict[str, Any]
    best: TrialResult | None = None
    """None without trials"""
    selection: KeyedChoice | None = None

    def check(self) -> None:
        """Require the options of the step's scorer with the settings of the best trial."""
        if "scorer" in self.asked:
            settings = self.best.settings if self.best else {}
            options = merged(self.asked["scorer"]["options"], settings)
            self.require(self.options == options, "result.json: `options` are not those of the best trial")


def merged(options: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scorer's options with the settings of a trial; the selection is no option."""
    return {**options, **{name: value for name, value in settings.items() if name != SELECTION}}


def propose(
    defaults: Mapping[str, Any],
    space: Space,
    study: str,
    number: int,
    finished: Sequence[Trial],
    sampler: Sampler,
) -> dict[str, Any]:
    """Propose the settings of trial `number` of a study, given its first trials, which are `finished`.

    Trials between those and this one are running: the sampler knows their settings and avoids them. The defaults come
    first, with each selection: on its objective tuning is never worse than any of these.
    """
    first, running = _first(defaults, space), list[dict[str, Any]]()
    while (position := len(finished) + len(running)) <= number:
        if position < len(first):
            running.append(first[position])
            continue
        distributions = _distributions(defaults, space)
        seed = int(digest(f"{study}/{position}")[:8], 16)
        known = _study(distributions, finished, running, sampler=_sampler(sampler, seed))
        running.append(known.ask(distributions).params)
    return running[-1]


def should_stop(values: Sequence[float], finished: Sequence[Trial], pruner: Pruner) -> bool:
    """Return whether to stop a trial with these values, fold by fold, given the finished trials."""
    if pruner == "none" or not finished:
        return False
    trial = _study({}, finished, pruner=_pruner(pruner)).ask()
    for fold, value in enumerate(values):
        trial.report(value, fold)
    return bool(trial.should_prune())


def importances(defaults: Mapping[str, Any], space: Space, finished: Sequence[Trial]) -> dict[str, float]:
    """Return each option's share of the objective's variation, by PED-ANOVA (Watanabe et al. 2023).

    Empty for few trials, one option, or no variation. Trials that were stopped early do not count.
    """
    finished = [trial for trial in finished if not trial.stopped]
    if len(finished) < _TELLING or len(space) < 2 or len({trial.value for trial in finished}) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = _study(_distributions(defaults, space), finished)
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


def export_study(path: Path, name: str, defaults: Mapping[str, Any], space: Space, finished: Sequence[Trial]) -> None:
    """Write a study as the SQLite file that `optuna-dashboard` opens by its `study_url`.

    Raises UsageError for a file that exists, and MissingRequirement for one that cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    sweep(path.parent, path.name)
    if path.exists():
        raise UsageError(f"{path} exists", "name a new file: a study is not added to another")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", "make it, or name another")
    try:
        with scratch(path) as folder:
            # Optuna formats the URL as a template, and SQLAlchemy before 2.1 quotes no path in it: the path bypasses
            # both.
            draft = folder.absolute() / "study.db"
            connect = partial(sqlite3.connect, draft, check_same_thread=False)
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
            try:
                _study(_distributions(defaults, space), finished, storage=storage, study_name=name)
            finally:
                storage.engine.dispose()
            link_new(draft, path)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error).partition("\n")[0]
        raise MissingRequirement(f"study {path} cannot be written: {reason}", "name another file") from error


def study_url(path: Path) -> str:
    """Return the URL of a study's SQLite file, with special characters quoted: `sqlite:///a%3Fb.db`."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


def _first(defaults: Mapping[str, Any], space: Space) -> list[dict[str, Any]]:
    proposal = {name: defaults[name] for name in space if name != SELECTION}
    if SELECTION not in space:
        return [proposal]
    return [{**proposal, SELECTION: value} for value in space[SELECTION]["values"]]


def _study(
    distributions: Mapping[str, Any],
    finished: Sequence[Trial],
    running: Sequence[Mapping[str, Any]] = (),
    **options: Any,
) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", **options)
    states = optuna.trial.TrialState
    trials: list[dict[str, Any]] = [
        {
            "params": trial.settings,
            "value": trial.value,
            "intermediate_values": dict(enumerate(trial.folds)),
            "state": states.PRUNED if trial.stopped else states.COMPLETE,
        }
        for trial in finished
    ]
    trials += [{"params": settings, "state": states.RUNNING} for settings in running]
    for trial in trials:
        params = {name: trial["params"][name] for name in distributions}
        study.add_trial(optuna.trial.create_trial(**{**trial, "params": params, "distributions": dict(distributions)}))
    return study


def _sampler(name: Sampler, seed: int) -> Any:
    from optuna import samplers

    if name == "tpe":  # avoids the settings of running trials, as by default from Optuna 5 on
        return samplers.TPESampler(seed=seed, constant_liar=True)
    return {"random": samplers.RandomSampler, "gp": samplers.GPSampler}[name](seed=seed)


def _pruner(name: Pruner) -> Any:
    from optuna import pruners
    from optuna.exceptions import ExperimentalWarning

    if name == "median":
        return pruners.MedianPruner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return pruners.WilcoxonPruner()


def _is_within(value: Any, limits: Mapping[str, Any]) -> bool:
    if "values" in limits:
        return any(value == known and type(value) is type(known) for known in limits["values"])
    return type(value) in (int, float) and bool(limits["low"] <= value <= limits["high"])


def _distributions(defaults: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {name: _distribution(limits, defaults.get(name)) for name, limits in space.items()}


def _distribution(limits: Mapping[str, Any], default: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "values" in limits:
        return CategoricalDistribution(limits["values"])
    if isinstance(default, int):
        return IntDistribution(int(limits["low"]), int(limits["high"]), log=limits["log"])
    return FloatDistribution(limits["low"], limits["high"], log=limits["log"])
