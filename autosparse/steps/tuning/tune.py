"""trial, tune: Optuna proposes the options of a scorer, a proxy training judges them; each trial is an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from autosparse.core.features import Features
from autosparse.core.ranking import HeldOut, Objective, Split, cross_validate
from autosparse.core.scorers import scorers
from autosparse.core.training.loop import accuracy
from autosparse.core.training.loop import train as train_network
from autosparse.core.training.recipe import Recipe, of_a_step
from autosparse.core.weights import Tensors
from autosparse.errors import StepError
from autosparse.steps._base import Context, operations
from autosparse.steps.context import generator, images_of, load_network, not_finite, on_device
from autosparse.steps.label import example_bytes, example_rows
from autosparse.steps.mask import make_masks, mask_cost
from autosparse.steps.scorer import check_rounds, described_rounds, load_examples
from autosparse.steps.tuning.study import (
    SELECTION,
    Pruner,
    Sampler,
    Trial,
    TrialResult,
    TuneResult,
    merged,
    propose,
    should_stop,
)
from autosparse.steps.workload import LINE, Counted, Facts, Workload, sum_counted, sum_units, training_workload
from autosparse.store import digest


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """The options of a trial.

    With a `proxy` its value includes, by the proxy's `weight`, the accuracy of input `init` pruned by `method` with the
    scorer and trained by `training`. `selections` are keyed choices by their names in proposals: if they are tuned, the
    proposed one goes with the scorer.
    """

    scorer: Mapping[str, Any]
    space: Mapping[str, Mapping[str, Any]]
    folds: int
    number: int
    seed: int
    split: Split = "layers"
    objective: Objective = "rank"
    sampler: Sampler = "tpe"
    parallel: int = 1
    pruner: Pruner = "none"
    proxy: Mapping[str, Any] | None = None
    method: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    selections: Mapping[str, Any] | None = None


def trial_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of cross-validating a scorer and, with a proxy, of pruning and training one network."""
    scorer, folds, sources = options["scorer"], options["folds"], facts.count("label")
    examples = sources * example_bytes(facts, described_rounds(scorer["name"]))
    rows = sources * example_rows(facts, described_rounds(scorer["name"]))
    about = {name: options[name] for name in ("pruner", "proxy", "method", "training") if name in options}
    work = Workload(
        {"scorer": scorer, "folds": folds, "sources": sources, **about},
        {"step": 1, "scorer": folds * scorer["options"].get("steps", 1), "bytes": examples},
        ({"bytes": 4 * examples},),
        LINE + 100 * len(facts.roles),
        runs_network=False,
        counted=Counted(macs=folds * facts.learned + rows * facts.predicted),  # each fold scores the rows it holds out
    )
    if "proxy" not in options:
        return work
    recipe = {**options["training"], "epochs": options["proxy"]["epochs"]}
    parts = (
        # For the proxy the scorer is fitted once more, to all examples.
        replace(
            work,
            units={**work.units, "scorer": work.units["scorer"] * (1 + 1 / folds)},
            counted=work.counted + Counted(macs=facts.learned),
        ),
        mask_cost({"method": options["method"], "training": of_a_step(recipe)}, facts),
        training_workload({"training": recipe}, facts),
    )
    return replace(
        work,
        units={**sum_units(parts), "forward": facts.source.validation_images},
        counted=sum_counted(part.counted for part in parts) + facts.evaluated(facts.source.validation_images),
        memory=tuple(phase for part in parts for phase in part.memory),
        runs_network=True,
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
    )


@operations.register(
    result=TrialResult,
    cost=trial_cost,
    version=2,
    metric="value",
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
def trial(context: Context, **options: Any) -> None:
    """Run trial `number`, from 0: a scorer with proposed options, scored on held-out layers.

    Its options are `TrialOptions`. Inputs `trial` are the earlier batches of `parallel` trials. By their values of a
    fold, a trial may stop after one of its folds; its value is then the mean so far.
    """
    asked = TrialOptions(**options)
    trials = [TrialResult.read(artifact).trial for artifact in context.roles("trial").values()]
    assert len(trials) == asked.number - asked.number % asked.parallel
    settings = _propose(context, asked, trials)
    chosen = asked.selections[settings[SELECTION]] if asked.selections else None
    entry = scorers[asked.scorer["name"]]
    scorer = {"name": asked.scorer["name"], "options": merged(asked.scorer["options"], settings)}
    if chosen is not None:
        scorer["selection"] = chosen
    fitted, _ = entry.apart(scorer["options"])
    check_rounds(context, scorer["name"])
    features, shares = load_examples(context)

    def learn(features: Features, shares: Tensors) -> Tensors:
        state: Tensors = entry.function(features, shares, generator("scorer", asked.seed), **fitted)
        return state

    folds: list[float] = []
    stopped = False

    def enough(fold: HeldOut, left: int) -> bool:
        nonlocal stopped
        folds.append(fold.value(asked.objective))
        stopped = left > 0 and should_stop(folds, trials, asked.pruner)
        return stopped

    try:
        held_out = cross_validate(learn, entry.facts["predict"], features, shares, asked.folds, asked.split, enough)
    except ValueError as error:
        raise StepError(f"tuning cannot hold {asked.split} out: {error}", "set `tuning: {trials: 0}`") from error
    value, reached = held_out.value(asked.objective), None
    if asked.proxy and not stopped:
        reached = validate_scorer(context, asked, scorer, learn(features, shares))
        value = (1 - asked.proxy["weight"]) * value + asked.proxy["weight"] * reached / 100
    TrialResult(
        number=asked.number,
        settings=settings,
        value=value,
        folds=folds,
        stopped=stopped,
        **asdict(held_out),
        validation_accuracy=reached,
        selection=chosen,
    ).write(context.output)


def _propose(context: Context, asked: TrialOptions, trials: Sequence[Trial]) -> dict[str, Any]:
    labels = [artifact.key for artifact in context.roles("label").values()]
    aims = [asked.split, asked.objective, asked.sampler]
    study = digest([asked.scorer, asked.space, asked.folds, asked.seed, labels, *aims])
    return propose(asked.scorer["options"], asked.space, study, asked.number, trials, asked.sampler)


def tune_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of reading every trial."""
    size = LINE + 100 * len(facts.roles)
    return Workload({}, {"step": 1}, ({},), size, depends_on_network=False, runs_network=False)


@operations.register(result=TuneResult, cost=tune_cost, version=2, spec_paths={"trial.*": "tuning.trials"})
def tune(context: Context, *, scorer: dict[str, Any]) -> None:
    """Choose the settings of the best trial that was not stopped, the first among equals; the spec's without trials."""
    trials = map(TrialResult.read, context.roles("trial").values())
    whole = (trial for trial in trials if not trial.stopped)
    best = max(whole, key=lambda trial: trial.value, default=None)
    options = merged(scorer["options"], best.settings if best else {})
    TuneResult(options, best, best.selection if best else None).write(context.output)


def validate_scorer(context: Context, asked: TrialOptions, scorer: Mapping[str, Any], state: Tensors) -> float:
    """Return the validation accuracy, in percent, of input `init` pruned with this scorer and trained for the proxy.

    0 for a scorer that diverged, which ranks nothing.
    """
    assert asked.proxy is not None
    assert asked.method is not None
    assert asked.training is not None
    if not_finite(state):
        return 0.0
    seed, brief = asked.proxy["seed"], of_a_step(asked.training)
    _, made = make_masks(
        context,
        asked.method,
        seed=seed,
        sparsity=asked.proxy["sparsity"],
        budget=None,
        training=brief,
        learned=(scorer, state),
    )
    recipe, model = Recipe(**asked.training, epochs=asked.proxy["epochs"]), load_network(context)
    masks = on_device(context, made.masks)
    train_network(
        model, images_of(context, "train"), recipe, generator("train", seed), masks=masks, observe=context.observe
    )
    return accuracy(model, images_of(context, "validation"), recipe.precision, batch=context.placement.evaluation_batch)
