"""trial, tune: Optuna proposes the options of a scorer, a proxy training judges them; each trial is an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from autosparse.core.ranking import HeldOut, Objective, Split, cross_validate
from autosparse.core.scorers import scorers
from autosparse.core.training.loop import Recipe, accuracy, of_a_step
from autosparse.core.training.loop import train as train_network
from autosparse.core.weights import Tensors
from autosparse.errors import StepError
from autosparse.steps._base import operations
from autosparse.steps.context import Work, generator, load_network
from autosparse.steps.label import example_bytes
from autosparse.steps.mask import make_masks, mask_cost
from autosparse.steps.scorer import check_rounds, described_rounds, load_examples
from autosparse.steps.study import SELECTION, Pruner, Sampler, propose, should_stop
from autosparse.steps.train import train_cost
from autosparse.steps.workload import LINE, Facts, Workload, costs, sum_units
from autosparse.store import digest


@operations.register(
    version=1,
    tells="value",
    best=True,
    chained="trials",
    spec_paths={
        "seed": "tuning.seed",
        "space": "tuning.options",
        "number": "tuning.trials",
        **{
            name: f"tuning.{name}"
            for name in ("folds", "split", "objective", "sampler", "parallel", "pruner", "proxy", "selections")
        },
        "label.*": "irp.seeds",
        "trial.*": "tuning.trials",
    },
)
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
    sampler: Sampler = "tpe",
    parallel: int = 1,
    pruner: Pruner = "none",
    proxy: dict[str, Any] | None = None,
    method: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    selections: dict[str, Any] | None = None,
) -> None:
    """Trial `number`, from 0: a scorer with proposed options, scored where it did not learn.

    Inputs `trial` are those of the batches of `parallel` trials before its own; by their values of a fold it may be
    stopped after one of its own, and has then the mean so far. With a `proxy` the value is, by its `weight`, the
    accuracy that input `init` comes to when it is pruned by `method` with the scorer and trained by `training`;
    where `selections`, keyed choices by what proposals call them, are tuned, what is proposed goes with the scorer.
    """
    labels = [artifact.key for artifact in work.roles("label").values()]
    aims = [] if (split, objective, sampler) == ("layers", "rank", "tpe") else [split, objective, sampler]
    study = digest([scorer, space, folds, seed, labels, *aims])
    finished = [artifact.json("result") for artifact in work.roles("trial").values()]
    assert len(finished) == number - number % parallel
    settings = propose(scorer["options"], space, study, number, finished, sampler)
    entry = scorers[scorer["name"]]
    options = _options(scorer, settings)
    chosen = {"selection": selections[settings[SELECTION]]} if selections else {}
    own, _ = entry.apart(options)
    check_rounds(work, scorer["name"])
    features, shares = load_examples(work)

    def learn(features: Any, shares: Any) -> Any:
        return entry.function(features, shares, generator("scorer", seed), **own)

    values: list[float] = []
    stopped = False

    def enough(fold: HeldOut, left: int) -> bool:
        nonlocal stopped
        values.append(fold.value(objective))
        stopped = left > 0 and should_stop(values, finished, pruner)
        return stopped

    try:
        found = cross_validate(learn, entry.facts["predict"], features, shares, folds, split, enough)
    except ValueError as error:
        raise StepError(f"tuning cannot hold {split} out: {error}", "set `tuning: {trials: 0}`") from error
    value, reached = found.value(objective), {}
    if proxy and not stopped:
        assert method is not None
        assert training is not None
        about = {"name": scorer["name"], "options": options, **chosen}
        size = {name: proxy[name] for name in ("sparsity", "epochs", "seed")}
        accuracy = validate_scorer(work, about, learn(features, shares), method, training, **size)
        value = (1 - proxy["weight"]) * value + proxy["weight"] * accuracy / 100
        reached = {"validation_accuracy": accuracy}
    told = {"settings": settings, "value": value, "number": number, "folds": values, "stopped": stopped}
    work.output.write_json("result", {**told, **asdict(found), **reached, **chosen})


@operations.register(version=1, spec_paths={"trial.*": "tuning.trials"})
def tune(work: Work, *, scorer: dict[str, Any]) -> None:
    """The settings of the best trial that was not stopped, the first among equals; the spec's own without trials."""
    trials = [artifact.json("result") for artifact in work.roles("trial").values()]
    none: dict[str, Any] = {"settings": {}, "value": None}
    whole = (trial for trial in trials if not trial.get("stopped"))  # earlier releases stopped none
    best = max(whole, key=lambda found: found["value"], default=none)
    chosen = {"selection": best["selection"]} if "selection" in best else {}
    work.output.write_json("result", {"best": best, "options": _options(scorer, best["settings"]), **chosen})


def _options(scorer: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**scorer["options"], **{name: value for name, value in settings.items() if name != SELECTION}}


def validate_scorer(
    work: Work,
    scorer: Mapping[str, Any],
    state: Tensors,
    method: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    sparsity: float,
    epochs: float,
    seed: int,
) -> float:
    """The validation accuracy, in percent, of input `init` pruned by a method with this scorer and trained so long.

    0 for a scorer that diverged: it orders nothing.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        return 0.0
    brief = of_a_step(training)
    _, masks = make_masks(
        work, method, seed=seed, sparsity=sparsity, budget=None, training=brief, learned=(scorer, state)
    )
    recipe, model = Recipe(**training, epochs=epochs), load_network(work)
    masks = {name: mask.to(work.device) for name, mask in masks.items()}
    train_network(model, work.images("train"), recipe, generator("train", seed), masks=masks, observe=work.observe)
    return accuracy(model, work.images("validation"), recipe.precision, batch=work.place.evaluation_batch)


@costs.register(name="trial")
def trial_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of cross-validating a scorer and, with a proxy, of pruning and training one network."""
    scorer, folds, sources = options["scorer"], options["folds"], facts.count("label")
    examples = sources * example_bytes(facts, described_rounds(scorer["name"]))
    about = {name: options[name] for name in ("pruner", "proxy", "method", "training") if name in options}
    work = Workload(
        {"scorer": scorer, "folds": folds, "sources": sources, **about},
        {"step": 1, "scorer": folds * scorer["options"].get("steps", 1), "bytes": examples},
        ({"bytes": 4 * examples},),
        LINE + 100 * len(facts.roles),
        runs_network=False,
    )
    if "proxy" not in options:
        return work
    recipe = {**options["training"], "epochs": options["proxy"]["epochs"]}
    parts = (
        # For the proxy the scorer is fitted once more, to all examples.
        replace(work, units={**work.units, "scorer": work.units["scorer"] * (1 + 1 / folds)}),
        mask_cost({"method": options["method"], "training": of_a_step(recipe)}, facts),
        train_cost({"training": recipe}, facts),
    )
    return replace(
        work,
        units={**sum_units(parts), "forward": facts.source.validation_images},
        memory=tuple(phase for part in parts for phase in part.memory),
        runs_network=True,
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
    )


@costs.register(name="tune")
def tune_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of reading every trial."""
    size = LINE + 100 * len(facts.roles)
    return Workload({}, {"step": 1}, ({},), size, depends_on_network=False, runs_network=False)
