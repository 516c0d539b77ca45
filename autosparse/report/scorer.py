"""Scorer and ticket of a run: the scorer's part of the report, and folders of both for use elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from autosparse.core.scorers import scorers
from autosparse.packaged import __version__
from autosparse.planning.model import Plan
from autosparse.planning.starts import trained_start
from autosparse.report.finished import Finished
from autosparse.report.folder import write_folder
from autosparse.spec import Pretrained
from autosparse.steps.scorer import ScorerResult
from autosparse.steps.tickets.folder import ABOUT, PARTS
from autosparse.steps.tickets.orders import TicketResult
from autosparse.steps.tuning.study import Trial, TrialResult, TuneResult, importances
from autosparse.store import Artifact
from autosparse.store.sealed import seal


def copy_scorer(finished: Finished, folder: Path) -> Path | None:
    """Copy the scorer that a finished plan trained into `scorer` of a run folder, where a spec can name it.

    `scorer.json` is for other plans: versions of features, sha256 of the tensors, networks that it learned from.
    """
    plan = finished.plan
    if not finished.has("scorer") or isinstance(plan.spec.scorer, Pretrained):
        return None
    step = plan.steps["scorer"]
    artifact = finished.open("scorer")
    ScorerResult.read(artifact).check_contents()  # it is copied to users
    labels = [plan.steps[name] for role, name in step.inputs.items() if role.startswith("label.")]
    tried = [trial for trial in plan.of(TrialResult)[:1] if "init" in trial.inputs]  # the proxy that selected it
    takers = (*labels, *tried)
    keys = ({role: plan.steps[taker.inputs[role]].key for role in ("init", "data")} for taker in takers)
    starts = sorted({start for taker in takers if (start := trained_start(plan.steps, taker.inputs))})
    about = {
        **ScorerResult.read(artifact).json(),
        "features": labels[0].options["features"],
        "learned_from": list(keys),
        **({"starts": starts} if starts else {}),
        "sha256": artifact.files["state.safetensors"]["sha256"],
    }
    target = folder / "scorer"
    card = _card(finished, artifact)
    files = {
        "state.safetensors": lambda: artifact.read("state.safetensors"),
        "scorer.json": lambda: seal(about),
        "card.json": lambda: f"{json.dumps(card, indent=1)}\n".encode(),
    }
    write_folder(target, files)
    return target


def copy_ticket(finished: Finished, folder: Path) -> Path | None:
    """Copy the ticket that a finished plan found into `ticket` of a run folder, where specs and `prune` can name it.

    `ticket.json` describes it for programs: its network, how it was found, and the sha256 of its tensors.
    """
    steps = [step for step in finished.with_result(TicketResult) if step.inputs]  # not from another folder
    if not steps:
        return None
    artifact = finished.open(steps[0].name)
    result = TicketResult.read(artifact)
    result.check_contents()  # it is copied to users
    digests = {part: artifact.files[f"{part}.safetensors"]["sha256"] for part in PARTS}
    data = finished.plan.steps[steps[0].inputs["data"]].options["identity"]
    card = {
        **result.json(),
        "data": data,
        **finished.plan.spec.model_dump(mode="json", include={"ticket", "training"}),
        "autosparse": __version__,
        "environment": artifact.descriptor["environment"],
    }
    files: dict[str, Callable[[], bytes]] = {
        **{f"{part}.safetensors": partial(artifact.read, f"{part}.safetensors") for part in PARTS},
        ABOUT: lambda: seal({**result.json(), "sha256": digests}),
        "card.json": lambda: f"{json.dumps(card, indent=1)}\n".encode(),
    }
    write_folder(folder / "ticket", files)
    return folder / "ticket"


def _card(finished: Finished, artifact: Artifact) -> dict[str, Any]:
    # For people: no code reads it.
    plan, spec = finished.plan, finished.plan.spec
    labels = [plan.steps[name] for role, name in plan.steps["scorer"].inputs.items() if role.startswith("label.")]
    sources = []
    for label in labels:
        start, data = (plan.steps[label.inputs[role]].options for role in ("init", "data"))
        images = {"shape": start["shape"], "classes": start["classes"], "data": data["identity"]}
        sources.append({"network": start["model"], "seed": start["seed"], **images})
    held_out = ("value", "rank_correlation", "rank_correlation_within_layers", "precision", "beyond_quotas", "quotas")
    description = describe_scorer(finished, None)
    return {
        "sources": sources,
        "irp": spec.irp.model_dump(mode="json", exclude={"model", "models", "dataset", "seeds"}),
        "tuning": spec.tuning.model_dump(mode="json", exclude_defaults=True),
        "tuned": description["tuned"],
        "held_out": {name: description[name] for name in held_out},
        "autosparse": __version__,
        "environment": artifact.descriptor["environment"],
    }


def describe_scorer(finished: Finished, folder: Path | None) -> dict[str, Any]:
    """Return the report's description of the scorer: empty where no method needs one, or it failed."""
    if not finished.has("scorer"):
        return {}
    plan = finished.plan
    scorer, tuning = ScorerResult.read(finished.open("scorer")), plan.spec.tuning
    tried = TuneResult.read(finished.open("tune")).best if finished.has("tune") else None
    trials = [TrialResult.read(finished.open(step.name)).trial for step in finished.with_result(TrialResult)]
    return {
        "name": scorer.name,
        "options": scorer.options,
        "tuned": tried.settings if tried else {},
        "objective": tuning.objective,
        "split": tuning.split,
        "value": tried and tried.value,
        "rank_correlation": tried and tried.overall,
        "rank_correlation_within_layers": tried and tried.within,
        "precision": tried and tried.precision,
        "beyond_quotas": tried and tried.beyond_quotas,
        "quotas": tried and tried.quotas,
        "proxy": tried and tried.validation_accuracy,
        "trials": [trial.value for trial in trials],
        **_study(plan, trials),
        "progressive": bool(scorers[scorer.name].facts.get("progressive")),
        "pretrained": isinstance(plan.spec.scorer, Pretrained),
        "taken_from": plan.spec.scorer.pretrained if isinstance(plan.spec.scorer, Pretrained) else None,
        "path": str(folder.resolve()) if folder else None,
    }


def _study(plan: Plan, trials: Sequence[Trial]) -> dict[str, Any]:
    # Everything that Optuna needs to recreate the study.
    if not trials:
        return {"space": {}, "defaults": {}, "settings": [], "folds": [], "stopped": [], "importances": {}}
    options = plan.of(TrialResult)[0].options
    defaults, space = options["scorer"]["options"], options["space"]
    return {
        "space": space,
        "defaults": {name: defaults[name] for name in space if name in defaults},
        "settings": [trial.settings for trial in trials],
        "folds": [trial.folds for trial in trials],
        "stopped": [trial.stopped for trial in trials],
        "importances": importances(defaults, space, trials),
    }
