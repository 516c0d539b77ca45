"""Commands `export` and `inspect`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from autosparse.api import OpenedModel, read_emitted
from autosparse.cli import options
from autosparse.cli.app import app, exit_on_interrupt, fit_loaded, say, show_json
from autosparse.cli.checkpoint import (
    Checkpoint,
    CheckpointRequest,
    ClassesOf,
    MasksOf,
    ModelOf,
    ShapeOf,
    export_checkpoint,
)
from autosparse.cli.help import OUTPUT, Command, examples
from autosparse.cli.options import option
from autosparse.console.models import show_inspected, show_verified
from autosparse.console.progress import follow
from autosparse.cost.fitted import Fitted
from autosparse.errors import StepError, UsageError
from autosparse.execute import Execution, Outcome
from autosparse.exporters import exporters
from autosparse.planning.status import select_steps, statuses
from autosparse.registry import suggestion
from autosparse.report.build import copy_emitted
from autosparse.report.finished import Finished
from autosparse.report.folder import Run, find_run, is_vacant, resolved_of, spec_name_of
from autosparse.report.schema import Emitted
from autosparse.report.warnings import failed_emissions
from autosparse.spec import DENSE, LoadedSpec, find_budget, parse_list, take_spec
from autosparse.steps.emit import EmitResult
from autosparse.steps.tuning.study import Trial, export_study, study_url
from autosparse.store import Store, open_index

_MODELS = "Models"
_OF_RUNS = ("RUN", "--method", "--budget", "--seed", "--study", "--force")
_FORMAT_HELP = "A format, or {name: compact, values: float16}; repeatable."


@app.command(
    cls=Command,
    epilog=examples(
        "export --format onnx",
        "export digits-1 --format compact --budget 0.95 --out models",
        "export --checkpoint trained.pt --model digits --format onnx --out served",
    ),
)
def export(
    run: Annotated[str | None, options.runs_argument("Run folder or name; without one, the latest run.")] = None,
    format: Annotated[list[str] | None, option(_MODELS, _FORMAT_HELP, metavar="FORMAT")] = None,
    method: Annotated[
        str | None, option(_MODELS, "A method of the run; by default the spec's `method`.", metavar="METHOD")
    ] = None,
    budget: Annotated[
        list[str] | None, option(_MODELS, "A budget of the run; repeatable; by default all.", metavar="BUDGET")
    ] = None,
    seed: Annotated[int | None, option(_MODELS, "A seed of the run; by default the first.", metavar="SEED")] = None,
    out: Annotated[
        Path | None,
        option(OUTPUT, "A new or empty folder, or with `--force` any; by default models/ of the run.", metavar="DIR"),
    ] = None,
    study: Annotated[
        Path | None, option(OUTPUT, "Write the run's study to a new SQLite file instead.", metavar="FILE")
    ] = None,
    force: Annotated[bool, option(_MODELS, "Export and measure again even if cached.")] = False,
    checkpoint: Checkpoint = None,
    model: ModelOf = None,
    masks: MasksOf = None,
    shape: ShapeOf = None,
    classes: ClassesOf = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export models of a run or a checkpoint in any format, or with `--study` a run's trials for optuna-dashboard."""
    request = CheckpointRequest(checkpoint, model, masks, shape, classes, quiet, json_)
    if request.is_given:
        others = dict(zip(_OF_RUNS, (run, method, budget, seed, study, force), strict=True))
        request.check(others, out)
        export_checkpoint(request, out or Path(), _formats(format))
        return
    chosen = find_run(run)
    if study is not None:
        if given := "--format" if format else "--method" if method else "--out" if out else None:
            raise UsageError(f"`--study` writes trials, which have no `{given}`")
        _export_study(chosen, study, json_=json_, quiet=quiet)
        return
    if out is not None and not (is_vacant(out) or (force and out.is_dir())):
        raise UsageError(f"{out} holds something else", "name an empty folder with `--out`")
    formats = _formats(format)
    store = Store.default()
    loaded = _spec_of(chosen, formats, method, budget or [], seed)
    fitted = fit_loaded(loaded, store, open_index(store), quiet=quiet, timed=False)
    emitted, refused, outcome = _emit(fitted, store, out or chosen.folder, force=force, quiet=quiet)
    if json_:
        models = [asdict(one) for one in emitted]
        show_json({"schema_version": 1, "run": str(chosen.folder), "emitted": models})
    else:
        show_verified(emitted, str(out or chosen.folder / "models"), "the same command with `--force`")
    if refused:
        raise StepError.of([*((message, None) for message in refused), *outcome.problems()])
    outcome.check(reported=True)


@app.command(cls=Command, epilog=examples("inspect runs/digits-1/models/learned-0.95-seed0/safetensors"))
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The folder of an exported model, or its .safetensors file.")
    ],
    json_: options.Json = False,
) -> None:
    """Describe an exported model: its layers, their sparsity, and its provenance."""
    description = _describe(read_emitted(path))
    if json_:
        show_json({"schema_version": 1, **description})
    else:
        show_inspected(description)


def _formats(given: Sequence[str] | None) -> list[Any]:
    formats = [value for text in given or ["safetensors"] for value in parse_list(text, f"--format {text}")]
    if unknown := [name for name in formats if isinstance(name, str) and name not in exporters]:
        raise UsageError(f"there is no format `{unknown[0]}`", exporters.suggest(unknown[0]))
    return formats


def _spec_of(
    run: Run, formats: Sequence[Any], method: str | None, budgets: Sequence[str], seed: int | None
) -> LoadedSpec:
    """Return the run's spec reduced to the requested models; its steps keep their cache keys."""
    loaded = take_spec(resolved_of(run), spec_name_of(run))
    spec, resolved = loaded.spec, loaded.document.data
    methods = {one.name: one for one in spec.methods}
    name = spec.method.name if method is None else method
    if name not in methods:
        hint = suggestion(name, [*methods]) or f"its methods: {', '.join(methods)}"
        raise UsageError(f"run {run.folder} has no method `{name}` with masks", hint if name != DENSE else None)
    named = {text: find_budget(spec.budget, text) for text in budgets}
    pairs = zip(resolved["budget"], spec.budget, strict=True)
    asked = [value for value, budget in pairs if not named or budget in named.values()]
    absent = [text for text, budget in named.items() if budget is None]
    if absent or (seed is not None and seed not in spec.seeds):
        lacks, known = (f"budget {', '.join(absent)}", spec.budget) if absent else (f"seed {seed}", spec.seeds)
        raise UsageError(f"run {run.folder} has no {lacks}", f"it has {', '.join(map(str, known))}")
    first = spec.seeds[0] if seed is None else seed
    # A model card lists other seeds and the controls of its method.
    names = [str(value.get("name")) if isinstance(value, dict) else str(value) for value in formats]
    whole = any(exporters[format].facts.get("others") for format in names if format in exporters)
    only = {
        "method": methods[name].model_dump(mode="json"),
        "budget": asked,
        "seeds": [first, *(other for other in spec.seeds if whole and other != first)],
        "emit": formats,
        "compare": [],
        "controls": resolved["controls"] if whole and name == spec.method.name else [],
        "sanity": None,
        "study": {},
    }
    return take_spec({**resolved, **only}, loaded.name)


def _emit(
    fitted: Fitted, store: Store, folder: Path, *, force: bool, quiet: bool
) -> tuple[list[Emitted], list[str], Outcome]:
    """Emit the models; return those in the folder, the reason for every refused one, and the outcome of the steps."""
    fitted = replace(fitted, statuses=statuses(fitted.plan, store))
    if missing := [name for name in fitted.to_run if not fitted.plan.steps[name].gives(EmitResult)]:
        more = f" and {len(missing) - 1} more steps" if missing[1:] else ""
        message = f"`{missing[0]}`{more} of the run are not in the cache any more, and an export trains nothing"
        raise UsageError(message, "run its spec again first")
    emissions = [name for name, step in fitted.plan.steps.items() if step.gives(EmitResult)]
    selection = select_steps(fitted.plan, fitted.statuses, force=emissions if force else ())
    stopped = "stopped: exported models stay in the cache\nhint: the same command goes on"
    with exit_on_interrupt(lambda: stopped, quiet=quiet), follow(fitted, quiet=quiet) as observer:
        execution = Execution(
            fitted.plan, store, observer, placement=fitted.placement, workers=fitted.workers, selection=selection
        )
        outcome = execution.attempt()

        def read() -> tuple[list[Emitted], list[str]]:
            finished = Finished.of(fitted.plan, store, outcome.unmade)
            return copy_emitted(finished, folder), failed_emissions(finished)

        emitted, refused = execution.read(read)
        return emitted, refused, outcome


def _export_study(run: Run, file: Path, *, json_: bool, quiet: bool) -> None:
    scorer: Mapping[str, Any] = run.report.scorer if run.report else {}
    if not scorer.get("settings"):
        why = run.problem if run.report is None else "its scorer was not tuned"
        raise UsageError(f"run {run.folder} has no study: {why}", "tune one with `tuning: {trials: 20}`")
    columns = (scorer[name] for name in ("settings", "trials", "folds", "stopped"))
    trials = [Trial(*row) for row in zip(*columns, strict=True)]
    export_study(file, run.folder.name, scorer["defaults"], scorer["space"], trials)
    if json_:
        show_json({"schema_version": 1, "run": str(run.folder), "study": str(file), "trials": len(trials)})
    elif not quiet:
        say(f"{len(trials)} trials in {file}; look at them with `optuna-dashboard {shlex.quote(study_url(file))}`")


def _describe(opened: OpenedModel) -> dict[str, Any]:
    card, model = opened.card, opened.model
    known = card.accuracy.layers if card else []
    # In the order of the network, not of the file.
    masks = {**{layer.name: model.masks[layer.name] for layer in known if layer.name in model.masks}, **model.masks}
    layers: list[dict[str, Any]] = [
        {"name": name, "shape": [*mask.shape], "size": mask.numel(), "kept": int(mask.sum())}
        for name, mask in masks.items()
    ]
    if not model.state:  # a model for another program: report the pruned network
        layers = [{"name": one.name, "shape": [], "size": one.size, "kept": one.kept} for one in known]
    for layer in layers:
        if ways := model.choices.get(str(layer["name"]).removesuffix(".weight")):
            layer["computed"] = dict(ways)
    training = card.provenance.get("train") if card else None
    return {
        "path": str(opened.path),
        "format": opened.format,
        "options": dict(card.options) if card else {},
        "bytes": opened.bytes,
        "tensors": len(model.state),
        "network": card.network_name if card else None,
        "method": card.method if card else None,
        "sparsity": card.sparsity if card else None,
        "seed": card.seed if card else None,
        "test_accuracy": card.accuracy.test_accuracy if card else None,
        "example_accuracy": card.accuracy.example_accuracy if card else None,
        "classes": card.classes if card else [],
        "images": card.images.model_dump() if card and card.images else None,
        "training": training.key if training else None,
        "kept": sum(layer["kept"] for layer in layers),
        "total": sum(layer["size"] for layer in layers),
        "layers": layers,
    }
