"""What a run found, as plain frozen data: results, controls, scorer, cost, emitted models, warnings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from autosparse.core.weights import sparsity_of
from autosparse.exporters import exporters
from autosparse.plan import Cell, Plan, Step
from autosparse.report.layers import Profile, describe_profiles
from autosparse.report.sanity import Sanity, describe_sanity
from autosparse.report.scorer import describe_scorer, write_file
from autosparse.report.timeline import Made, describe_timeline
from autosparse.report.verdict import Verdict, judge_results
from autosparse.store import Artifact, Store

SCHEMA_VERSION = 1
_MEASURED = ("bytes", "dense_bytes", "max_abs_error", "max_rel_error", "test_accuracy")


@dataclass(frozen=True)
class Result:
    """One trained network. Accuracies are in percent, after the last epoch."""

    method: str
    sparsity: float
    """as asked for, or the one that a budget in another currency came to"""
    seed: int
    kept: int
    total: int
    effective_sparsity: float
    macs: int
    test_accuracy: float
    validation_accuracy: float
    budget: str = ""
    """what the budget is called; empty in reports written before budgets had names"""
    dense_macs: int | None = None
    effective_macs: int | None = None
    """through weights that lie on a path; these are None where masks or reports were made before they were told"""
    effective_nodes: float | None = None
    """share of output channels that a path enters"""
    paths: float | None = None
    """natural logarithm of the number of paths from input to output; None, too, where there is none"""

    @property
    def label(self) -> str:
        """What its budget is called, in any report."""
        return self.budget or str(self.sparsity)


@dataclass(frozen=True)
class MaskCost:
    """What a method's masks took when they were made, the mean over seeds.

    `seconds` are those of the mask and, for `irp`, of the rounds on the network that is pruned. What a learned
    scorer cost is shared by all that it prunes and is told apart, as `cost`. `trainings` is the same in units of
    training the network once, of the dense one where the run trained it, else of the usual one of those that it
    pruned; None where that was not timed.
    """

    method: str
    budget: str
    seconds: float
    trainings: float | None


@dataclass(frozen=True)
class Emitted:
    """One emitted model. Latencies are those of one image; None in reports written before they were measured."""

    format: str
    method: str
    sparsity: float
    seed: int
    path: str
    bytes: int
    latency_ms: float | None
    dense_latency_ms: float | None
    max_abs_error: float
    budget: str = ""
    max_rel_error: float | None = None
    """the largest difference of an output over the largest output"""
    test_accuracy: float | None = None
    """in float32, after a reload in another process"""
    dense_bytes: int | None = None
    batch_latencies_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """images at once -> of the emitted model, and of the same network without a zero"""
    without_gain: str = ""
    """why it may be no faster"""

    @property
    def label(self) -> str:
        """What its budget is called, in any report."""
        return self.budget or str(self.sparsity)


@dataclass(frozen=True)
class Report:
    """A run as `run --json` and `report --json` print it."""

    schema_version: int
    run: str
    spec: str
    model: str
    dataset: str
    method: str
    steps: Mapping[str, int]
    seconds: float
    results: Sequence[Result]
    controls: Sequence[Result]
    irp: Sequence[Mapping[str, Any]]
    scorer: Mapping[str, Any]
    emitted: Sequence[Emitted]
    cost: Mapping[str, float]
    warnings: Sequence[str]
    unprunable: Mapping[str, str] = field(default_factory=dict)
    """parameter of the network to prune that is not prunable -> why"""
    mask_costs: Sequence[MaskCost] = ()
    """of every method and budget; empty in reports written before it was told"""
    oracles: Sequence[str] = ()
    """methods that trained the very network before they pruned it: no baselines"""
    sanity: Sequence[Sanity] = ()
    """what is left of each method's accuracy when its masks, or what they are made from, are altered"""
    verdicts: Sequence[Verdict] = ()
    """what the spec's method comes to at each budget; empty in reports written before it was told"""
    profiles: Sequence[Profile] = ()
    """where the weights went, of the first seed; empty in reports written before it was told"""
    timeline: Sequence[Made] = ()
    """when its steps were made, by this run and those before it; empty in reports written before it was told"""

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Report:
        """The report that `json` gave. Raises ValueError on anything else."""
        return TypeAdapter(cls).validate_python(value)


def build_report(
    plan: Plan,
    store: Store,
    *,
    run: str,
    steps: Mapping[str, int],
    seconds: float,
    emitted: Sequence[Emitted],
    scorer: Path | None = None,
) -> Report:
    """Read a finished plan's artifacts. Raises DamagedArtifact for one that cannot be trusted."""

    def result(cell: Cell) -> Result:
        found = _open(plan, store, cell.evaluate).json("result")
        return Result(
            method=cell.method,
            sparsity=_sparsity(cell, found),
            seed=cell.seed,
            kept=found["kept"],
            total=found["total"],
            effective_sparsity=1 - found["effective"] / found["total"],
            macs=found["macs"],
            test_accuracy=found["test_accuracy"],
            validation_accuracy=found["validation_accuracy"],
            budget=cell.budget,
            dense_macs=found.get("dense_macs"),
            effective_macs=found.get("effective_macs"),
            effective_nodes=found["nodes"] / found["channels"] if "nodes" in found else None,
            paths=found.get("paths"),
        )

    results = [result(cell) for cell in plan.cells if cell.role != "control"]
    controls = [result(cell) for cell in plan.cells if cell.role == "control"]
    return Report(
        schema_version=SCHEMA_VERSION,
        run=run,
        spec=plan.name,
        model=plan.spec.model.short_name,
        dataset=plan.spec.dataset.short_name,
        method=plan.spec.method.name,
        steps=dict(steps),
        seconds=round(seconds, 2),
        results=results,
        controls=controls,
        irp=[_round(plan, store, step) for step in plan.of("irp") if step.purpose == "source"],
        scorer=describe_scorer(plan, store, scorer),
        emitted=emitted,
        cost=_cost(plan, store),
        warnings=_warnings(plan, store, [*results, *controls]),
        unprunable=_open(plan, store, plan.steps[plan.cells[0].train].inputs["init"])
        .json("network")
        .get("unprunable", {}),
        mask_costs=_mask_costs(plan, store),
        oracles=[method.name for method in plan.spec.methods if method.needs_rounds],
        sanity=describe_sanity(plan, store, results),
        verdicts=_verdicts(plan, results, controls),
        profiles=describe_profiles(plan, store),
        timeline=describe_timeline(plan, store),
    )


def failed_emissions(plan: Plan, store: Store) -> list[str]:
    """Of every model that was asked for and is not emitted, why."""
    return [told for found in _emissions(plan, store) if (told := _not_emitted(*found))]


def copy_emitted(plan: Plan, store: Store, folder: Path) -> list[Emitted]:
    """Put the emitted models into a run's folder; files that are there with the same bytes are left alone."""
    emitted = []
    for step, cell, artifact in _emissions(plan, store):
        if _not_emitted(step, cell, artifact):
            continue
        about = step.options
        named = f"{about['method']}-{cell.budget.replace(' ', '-')}-seed{about['seed']}"
        place = folder / "models" / named / step.name.split("/")[1]
        place.mkdir(parents=True, exist_ok=True)
        for name in artifact.files:
            write_file(place / name, artifact.read(name))
        measured = artifact.json("measured")
        latency, dense_latency = measured["latency"]["1"]
        emitted.append(
            Emitted(
                format=step.name.split("/")[1],
                method=about["method"],
                sparsity=_sparsity(cell, artifact.json("card")["accuracy"]),
                seed=about["seed"],
                path=str(place.resolve()),
                latency_ms=latency,
                dense_latency_ms=dense_latency,
                budget=cell.budget,
                batch_latencies_ms=measured["latency"],
                without_gain=exporters[about["format"]].facts.get("gain", ""),
                **{name: measured[name] for name in _MEASURED},
            )
        )
    return emitted


def _not_emitted(step: Step, cell: Cell, artifact: Artifact) -> str:
    """Why a model is not emitted; empty where it is."""
    failed = artifact.json("measured").get("failed")
    format = step.name.split("/")[1]
    return f"{format} of {cell.method} at {cell.budget} is not emitted: {failed}" if failed else ""


def _emissions(plan: Plan, store: Store) -> Iterator[tuple[Step, Cell, Artifact]]:
    # One model may be within several budgets: it is put where each of them is looked for.
    own = [cell for cell in plan.cells if cell.role == "method"]
    for step in plan.of("emit"):
        for cell in own:
            if cell.evaluate == step.inputs["evaluate"]:
                yield step, cell, _open(plan, store, step.name)


def _sparsity(cell: Cell, found: Mapping[str, Any]) -> float:
    return sparsity_of(found["total"], found["kept"]) if cell.sparsity is None else cell.sparsity


def _open(plan: Plan, store: Store, name: str) -> Artifact:
    step = plan.steps[name]
    return store.open(step.operation, step.key)


def _round(plan: Plan, store: Store, step: Step) -> dict[str, Any]:
    found = _open(plan, store, step.name).json("result")
    start = plan.steps[step.inputs["init"]]
    return {
        "model": start.options["model"]["name"],
        "seed": step.options["seed"],
        "source": step.name.removeprefix("irp/").rpartition("/")[0],
        "round": step.options["number"],
        "kept": found["kept"],
        "total": found["total"],
        "validation_accuracy": found["validation_accuracy"],
    }


def _cost(plan: Plan, store: Store) -> dict[str, float]:
    """Seconds that the artifacts of each purpose took when they were made."""
    cost: dict[str, float] = {}
    for step in plan.steps.values():
        seconds = store.open(step.operation, step.key).descriptor.get("seconds", 0.0)
        cost[step.purpose] = round(cost.get(step.purpose, 0.0) + seconds, 3)
    return cost


def _mask_costs(plan: Plan, store: Store) -> list[MaskCost]:
    def seconds(name: str) -> float:
        taken: float = _open(plan, store, name).descriptor.get("seconds", 0.0)
        return taken

    dense = [cell for cell in plan.cells if cell.mask is None]
    training = statistics.median(seconds(cell.train) for cell in dense or plan.cells)
    found: dict[tuple[str, str], list[float]] = {}
    for cell in plan.cells:
        if cell.mask is not None and cell.role != "control":
            own = [
                cell.mask,
                *(name for role, name in plan.steps[cell.mask].inputs.items() if role.startswith(("round", "rewind"))),
            ]
            found.setdefault((cell.method, cell.budget), []).append(sum(map(seconds, own)))
    costs = []
    for (method, budget), masks in found.items():
        mean = statistics.fmean(masks)
        costs.append(MaskCost(method, budget, round(mean, 3), round(mean / training, 3) if training else None))
    return costs


def _verdicts(plan: Plan, results: Sequence[Result], controls: Sequence[Result]) -> list[Verdict]:
    source = plan.sources[plan.steps[plan.cells[0].train].inputs["data"]]
    return judge_results(
        plan.spec.method.name,
        results,
        controls,
        {method.name for method in plan.spec.methods if method.needs_rounds},
        {method.name for method in plan.spec.methods if method.needs_scorer},
        images=source.test_images,
        chance=100 / source.classes,
    )


def _collapsed(name: str, label: Artifact) -> str:
    found = label.json("result")
    used, made = found["rounds_used"], found["rounds_made"]
    where = f"IRP of {name.removeprefix('label/')}"
    if not used:
        return f"{where}: its networks learned nothing in any round, so its labels tell nothing; train them longer"
    if used == made:
        return ""
    return f"{where}: from round {used + 1} of {made} on its networks learned nothing; no scorer learns from these"


def _warnings(plan: Plan, store: Store, results: Sequence[Result]) -> list[str]:
    warnings = [told for step in plan.of("label") if (told := _collapsed(step.name, _open(plan, store, step.name)))]
    for cell in plan.cells:
        found = _open(plan, store, cell.evaluate).json("result")
        empty = [f"layer {layer['name']} keeps no weight" for layer in found["layers"] if not layer["kept"]]
        # Masks made by earlier releases were not examined.
        if cuts := [finding["message"] for finding in found["findings"]] if "findings" in found else empty:
            others = f", and {len(cuts) - 1} more" if len(cuts) > 1 else ""
            warnings.append(f"{cell.method} at {cell.budget}, seed {cell.seed}: {cuts[0]}{others}")
    warnings += failed_emissions(plan, store)
    if len(plan.spec.seeds) < 3:
        # The standard error of an accuracy counted on n images, two-sided 95 %, for the difference of two.
        accuracy = statistics.median(result.test_accuracy for result in results) / 100
        images = plan.sources[plan.steps[plan.cells[0].train].inputs["data"]].test_images
        noise = 100 * 1.96 * (2 * accuracy * (1 - accuracy) / images) ** 0.5
        seeds = "one seed" if len(plan.spec.seeds) == 1 else f"{len(plan.spec.seeds)} seeds"
        warnings.append(
            f"{seeds}, {images} test images: differences below about {noise:.1f} points are noise, "
            "and seeds add to it; set `seeds: [0, 1, 2]` for mean ± sd"
        )
    return warnings
