"""Optuna, in memory: a study is rebuilt from its finished trials whenever the next is proposed.

The sampler is seeded by the study and the trial's number, and knows the trials of the batches before, in whatever order
or process they ended: a study that was killed proposes exactly what an uninterrupted one does.
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
from autosparse.steps._base import KeyedChoice, StepResult
from autosparse.store import digest

Sampler = Literal["tpe", "random", "gp"]
Pruner = Literal["none", "median", "wilcoxon"]
SELECTION = "selection"
"""What of a trial's settings is no option of its scorer: which of `tuning.selections` fills the quotas."""

WILCOXON_FOLDS = 5
"""The least with which Optuna's Wilcoxon test can end a trial before its last fold: of four, all must be worse."""
Space = Mapping[str, Mapping[str, Any]]
"""Where options are looked for: option -> `values`, or `low`, `high` and `log`."""

_TELLING = 4  # trials from which the importance of options is told


@dataclass(frozen=True)
class Trial:
    """A finished trial: its settings, its value and those of its folds, and whether it was stopped early."""

    settings: Mapping[str, Any]
    value: float
    folds: Sequence[float] = ()
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialResult(StepResult):
    """A trial, what was measured on held-out layers, mean over folds (`core.ranking.HeldOut`), and its proxy."""

    number: int
    settings: dict[str, Any]
    value: float
    folds: list[float]
    stopped: bool
    overall: float
    within: float
    precision: float
    beyond_quotas: float
    quotas: float
    validation_accuracy: float | None = None
    """of the proxy, in percent"""
    selection: KeyedChoice | None = None

    @property
    def trial(self) -> Trial:
        """The trial as a study knows it."""
        return Trial(self.settings, self.value, self.folds, self.stopped)

    def check(self) -> None:
        """Require a setting for each option that is tuned."""
        missing = {*self.artifact.descriptor.get("options", {}).get("space", {})} - {*self.settings}
        self.require(not missing, f"result.json: `settings` lack {', '.join(sorted(missing))}")
        self.require(bool(self.folds), "result.json: `folds` is empty")


@dataclass(frozen=True)
class TuneResult(StepResult):
    """The scorer's options with the settings of the best trial that was not stopped, and the selection it chose."""

    options: dict[str, Any]
    best: TrialResult | None = None
    """None without trials"""
    selection: KeyedChoice | None = None


def propose(
    defaults: Mapping[str, Any],
    space: Space,
    study: str,
    number: int,
    finished: Sequence[Trial],
    sampler: Sampler,
) -> dict[str, Any]:
    """Settings of trial `number` of a study, proposed when the `finished` ones were there, which are the first.

    Those between were proposed before it and are running: the sampler is told their settings, and asks elsewhere. The
    defaults come first, with each selection in turn: on its objective tuning is never worse than any of these.
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
    """Whether a trial that came to these values, fold by fold, is to end here, given those of the finished ones."""
    if pruner == "none" or not finished:
        return False
    trial = _study({}, finished, pruner=_pruner(pruner)).ask()
    for fold, value in enumerate(values):
        trial.report(value, fold)
    return bool(trial.should_prune())


def importances(defaults: Mapping[str, Any], space: Space, finished: Sequence[Trial]) -> dict[str, float]:
    """What share of the objective's variation each option explains, by PED-ANOVA (Watanabe et al. 2023), or nothing.

    Nothing where there are few trials, one option, or no variation. Trials that were stopped early do not count.
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

    if path.exists():
        raise UsageError(f"{path} exists", "name a new file: a study is not added to another")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", "make it, or name another")
    # Optuna formats the URL as a template, and SQLAlchemy before 2.1 quotes no path in it: the path goes past both.
    connect = partial(sqlite3.connect, path.absolute(), check_same_thread=False)
    try:
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
        try:
            _study(_distributions(defaults, space), finished, storage=storage, study_name=name)
        finally:
            storage.engine.dispose()
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise MissingRequirement(f"study {path} cannot be written: {reason}", "name another file") from error


def study_url(path: Path) -> str:
    """Return the URL of a study's SQLite file, with the signs of its name quoted: `sqlite:///a%3Fb.db`."""
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

    if name == "tpe":  # that asks elsewhere than its running siblings, by default from Optuna 5 on
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


def _distributions(defaults: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {name: _distribution(limits, defaults.get(name)) for name, limits in space.items()}


def _distribution(limits: Mapping[str, Any], default: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "values" in limits:
        return CategoricalDistribution(limits["values"])
    if isinstance(default, int):
        return IntDistribution(int(limits["low"]), int(limits["high"]), log=limits["log"])
    return FloatDistribution(limits["low"], limits["high"], log=limits["log"])
