"""trial, tune: Optuna proposes a scorer's options; every trial is an artifact.

Optuna runs in memory. A study is rebuilt from its finished trials and the sampler is seeded by the study
and the trial's number, so a study that was killed proposes exactly what an uninterrupted one does.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from autosparse.core.ranking import Objective, Split, cross_validate
from autosparse.core.scorers import scorers
from autosparse.errors import StepError
from autosparse.steps import operations
from autosparse.steps.examples import load_examples
from autosparse.steps.work import Work, generator
from autosparse.store import digest


@operations.register(version=1)
def trial(
    work: Work,
    *,
    scorer: dict[str, Any],
    space: dict[str, dict[str, Any]],
    folds: int,
    number: int,
    seed: int,
    split: Split = "layers",
    objective: Objective = "rank",
) -> None:
    """Trial `number`, from 0: a scorer with proposed options, scored where it did not learn."""
    labels = [artifact.key for artifact in work.roles("label").values()]
    aims = [] if (split, objective) == ("layers", "rank") else [split, objective]
    study = digest([scorer, space, folds, seed, labels, *aims])
    finished = [artifact.json("result") for artifact in work.roles("trial").values()]
    settings = _propose(scorer["options"], space, f"{study}/{number}", finished)
    entry = scorers[scorer["name"]]
    features, shares = load_examples(work)

    def learn(features: Any, shares: Any) -> Any:
        return entry.function(features, shares, generator("scorer", seed), **{**scorer["options"], **settings})

    try:
        found = cross_validate(learn, entry.facts["predict"], features, shares, folds, split)
    except ValueError as error:
        raise StepError(f"tuning cannot hold {split} out: {error}", "set `tuning: {trials: 0}`") from error
    work.output.write_json(
        "result", {"settings": settings, "value": found.value(objective), "number": number, **asdict(found)}
    )


@operations.register(version=1)
def tune(work: Work, *, scorer: dict[str, Any]) -> None:
    """The settings of the best trial, the first among equals; the spec's own when there was no trial."""
    trials = [artifact.json("result") for artifact in work.roles("trial").values()]
    none: dict[str, Any] = {"settings": {}, "value": None}
    best = max(trials, key=lambda found: found["value"], default=none)
    work.output.write_json("result", {"best": best, "options": {**scorer["options"], **best["settings"]}})


def _propose(
    defaults: dict[str, Any], space: dict[str, dict[str, Any]], seed: str, finished: list[dict[str, Any]]
) -> dict[str, Any]:
    import optuna

    if not finished:  # the defaults come first: on its own objective, tuning is never worse than not tuning
        return {name: defaults[name] for name in space}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(limits, defaults[name]) for name, limits in space.items()}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=int(digest(seed)[:8], 16))
    )
    completed = partial(optuna.trial.create_trial, distributions=distributions)
    study.add_trials([completed(params=found["settings"], value=found["value"]) for found in finished])
    return study.ask(distributions).params


def _distribution(limits: dict[str, Any], default: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "values" in limits:
        return CategoricalDistribution(limits["values"])
    if isinstance(default, int):
        return IntDistribution(int(limits["low"]), int(limits["high"]), log=limits["log"])
    return FloatDistribution(limits["low"], limits["high"], log=limits["log"])
