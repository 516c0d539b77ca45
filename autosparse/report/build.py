"""Construction of a run's report from the artifacts of its finished steps, and the folders of emitted models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from autosparse.core.weights import sparsity_of
from autosparse.execute import Outcome
from autosparse.exporters import exporters, is_lossy
from autosparse.planning.budgets import limits
from autosparse.planning.model import Cell, Step, budget_in_names
from autosparse.report.finished import (
    Finished,
    describe_profiles,
    describe_timeline,
    find_missing,
)
from autosparse.report.folder import write_folder
from autosparse.report.mask_cost import describe_mask_costs, describe_references
from autosparse.report.provenance import describe_provenance, describe_recipes
from autosparse.report.sanity import describe_sanity
from autosparse.report.schema import SCHEMA_VERSION, Emitted, Failure, MaskCost, Report, Result, Start, Verdict
from autosparse.report.scorer import copy_scorer, copy_ticket, describe_scorer
from autosparse.report.significance import accuracy_interval, is_chance
from autosparse.report.speeds import check_latencies
from autosparse.report.verdict import judge_results
from autosparse.report.warnings import describe_warnings, emissions, tag_of
from autosparse.steps.emit import EmitResult
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RoundResult
from autosparse.steps.mask_result import ChannelMaskResult, read_masks
from autosparse.steps.train import EvaluateResult

_OF_NETWORK = ("kept", "total", "macs", "dense_macs", "effective_macs", "test_accuracy", "validation_accuracy")
_OF_EMITTED = ("bytes", "dense_bytes", "max_abs_error", "max_rel_error", "test_accuracy", "speeds", "threads")


def build_report(finished: Finished, outcome: Outcome, folder: Path | None = None) -> Report:
    """Read the artifacts of a plan's finished steps; copy models, scorer and ticket into the run folder, if any.

    Raises DamagedArtifact for an artifact that cannot be trusted.
    """
    plan = finished.plan
    failures = [Failure(**failure) for failure in outcome.failures()]
    results = [_result(finished, cell) for cell in finished.cells if cell.role != "control"]
    controls = [_result(finished, cell) for cell in finished.cells if cell.role == "control"]
    missing, costs = find_missing(finished, failures), describe_mask_costs(finished)
    if folder:
        copy_ticket(finished, folder)
    return Report(
        schema_version=SCHEMA_VERSION,
        run=str(folder or ""),
        spec=plan.name,
        model=plan.spec.model.short_name,
        dataset=plan.spec.dataset.short_name,
        method=plan.spec.method.name,
        steps={status: outcome.count(status) for status in ("run", "reuse", "resume")},
        seconds=round(outcome.seconds, 2),
        provenance=describe_provenance(finished),
        results=results,
        controls=controls,
        irp=[_round(finished, step) for step in finished.with_result(RoundResult) if step.purpose == "source"],
        scorer=describe_scorer(finished, copy_scorer(finished, folder) if folder else None),
        emitted=copy_emitted(finished, folder) if folder else [],
        cost=_cost(finished),
        warnings=describe_warnings(finished, failures, missing, [*results, *controls]),
        unprunable=_unprunable(finished),
        mask_costs=costs,
        oracles=[method.name for method in plan.spec.methods if method.needs_rounds],
        sanity=describe_sanity(finished, results),
        verdicts=_verdicts(finished, results, controls, costs),
        profiles=describe_profiles(finished),
        timeline=describe_timeline(finished),
        failures=failures,
        missing=missing,
        chance=finished.test.chance if results else None,
        test_images=finished.test.images if results else None,
        validation_images=finished.validation.images if results else None,
        start=_start(finished),
        limits=limits(plan),
        latencies=[*check_latencies(finished)],
        recipes=[*describe_recipes(finished)],
        references=describe_references(finished),
    )


def can_report(finished: Finished) -> bool:
    """Return whether a report has anything to describe: a result, or at least a network and its images."""
    starts = (finished.plan.steps[cell.evaluate].inputs for cell in finished.plan.cells)
    return bool(finished.cells) or any(finished.has(start["init"]) and finished.has(start["data"]) for start in starts)


def copy_emitted(finished: Finished, folder: Path) -> list[Emitted]:
    """Copy the emitted models into `models` of a run folder; existing files with the same bytes stay untouched.

    A new `models` appears whole, with every model.
    """
    models, emitted, files = folder / "models", list[Emitted](), dict[str, dict[str, Callable[[], bytes]]]()
    for step, cell, artifact, measured in emissions(finished):
        if isinstance(measured, EmitResult):
            measured.check_contents()
            within = _within_models(step, cell)
            files[within] = {name: partial(artifact.read, name) for name in artifact.files}
            emitted.append(_emitted(finished, step, cell, measured, models / within))
    if files and not models.exists():
        write_folder(models, {f"{within}/{name}": read for within, one in files.items() for name, read in one.items()})
    else:
        for within, one in files.items():
            write_folder(models / within, one)
    return emitted


def _within_models(step: Step, cell: Cell) -> str:
    named = f"{step.options['method']}-{budget_in_names(cell.budget)}-seed{step.options['seed']}"
    return f"{named}/{tag_of(step).replace('%', '%25').replace('/', '%2F')}"


def _emitted(finished: Finished, step: Step, cell: Cell, measured: EmitResult, path: Path) -> Emitted:
    single, about = measured.speeds["1"], step.options
    quantized = is_lossy(about["format"], about["options"])
    return Emitted(
        format=tag_of(step),
        method=about["method"],
        sparsity=_sparsity(cell, EvaluateResult.read(finished.open(cell.evaluate))),
        seed=about["seed"],
        path=str(path.resolve()),
        latency_ms=single.emitted_ms.median,
        dense_latency_ms=single.dense_ms.median if single.dense_ms else None,
        budget=cell.budget,
        runtime=measured.runtime,
        without_gain="" if quantized else _reason_for_no_gain(finished, cell, about),
        **{name: getattr(measured, name) for name in _OF_EMITTED},
    )


def _reason_for_no_gain(finished: Finished, cell: Cell, about: Mapping[str, Any]) -> str:
    # A format that removes channels multiplies no zeros of a method that prunes whole channels.
    facts = exporters[about["format"]].facts
    if (
        about["options"].get("shrink", facts.get("shrinks", False))
        and cell.mask
        and isinstance(read_masks(finished.open(cell.mask)), ChannelMaskResult)
    ):
        return "its smaller layers take as long here"
    return str(facts.get("gain", ""))


def _result(finished: Finished, cell: Cell) -> Result:
    network = EvaluateResult.read(finished.open(cell.evaluate))
    effective, nodes, channels = network.effective, network.nodes, network.channels
    counted = accuracy_interval(network.test_accuracy, finished.test.images)
    return Result(
        method=cell.method,
        sparsity=_sparsity(cell, network),
        seed=cell.seed,
        effective_sparsity=None if effective is None else 1 - effective / network.total,
        budget=cell.budget,
        effective_nodes=None if nodes is None or channels is None else nodes / channels,
        paths=None if network.paths == "unknown" else network.paths,
        status=_status(finished, network),
        test_accuracy_low=counted.low,
        test_accuracy_high=counted.high,
        **{name: getattr(network, name) for name in _OF_NETWORK},
    )


def _status(finished: Finished, network: EvaluateResult) -> str:
    if network.effective == 0:
        return "collapsed"
    at_chance = is_chance(network.test_accuracy, finished.test.images, finished.test.chance)
    return "at chance" if at_chance else "trained"


def _unprunable(finished: Finished) -> dict[str, str]:
    starts = (finished.plan.steps[cell.evaluate].inputs["init"] for cell in finished.plan.cells)
    start = next((name for name in starts if finished.has(name)), None)
    return InitResult.read(finished.open(start)).unprunable if start else {}


def _start(finished: Finished) -> Start | None:
    starts = (
        finished.plan.starts.get(finished.plan.steps[cell.evaluate].inputs["init"]) for cell in finished.plan.cells
    )
    weights = next((start.weights for start in starts if start), None)
    return Start(weights.name, weights.sha256) if weights and weights.sha256 else None


def _sparsity(cell: Cell, network: EvaluateResult) -> float:
    return sparsity_of(network.total, network.kept) if cell.sparsity is None else cell.sparsity


def _round(finished: Finished, step: Step) -> dict[str, Any]:
    result = RoundResult.read(finished.open(step.name))
    start = finished.plan.steps[step.inputs["init"]]
    return {
        "model": start.options["model"]["name"],
        "seed": step.options["seed"],
        "source": step.name.removeprefix("irp/").rpartition("/")[0],
        "round": step.options["number"],
        "kept": result.kept,
        "total": result.total,
        "validation_accuracy": result.validation_accuracy,
    }


def _cost(finished: Finished) -> dict[str, float]:
    cost: dict[str, float] = {}  # purpose -> compute cost in seconds, including cached steps
    for step in finished.steps():
        cost[step.purpose] = round(cost.get(step.purpose, 0.0) + finished.seconds(step.name), 3)
    return cost


def _verdicts(
    finished: Finished, results: Sequence[Result], controls: Sequence[Result], costs: Sequence[MaskCost]
) -> list[Verdict]:
    spec = finished.plan.spec
    if not results:  # the images and classes of the dataset may be unknown too
        return []
    return judge_results(
        spec.method.name,
        results,
        controls,
        {method.name for method in spec.methods if method.needs_rounds},
        {method.name for method in spec.methods if method.needs_scorer},
        images=finished.test.images,
        chance=finished.test.chance,
        seeds=len(spec.seeds),
        costs={(one.method, one.budget): one.trainings + one.training for one in costs if one.trainings is not None},
    )
