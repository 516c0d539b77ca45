"""Trained starts of a plan's networks: their check against the networks, refused sources of labels, and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from autosparse.errors import InvalidValue
from autosparse.models.facts import check_start
from autosparse.models.trained import Weights
from autosparse.planning.builder import Builder, blame
from autosparse.planning.model import PlannedStart, Step
from autosparse.spec import Pretrained, Spec
from autosparse.steps.init import START
from autosparse.steps.label import LabelResult
from autosparse.store import digest


def plan_start(step: Step, weights: Weights, *, known: bool) -> PlannedStart:
    """Return the trained start of an `init` step, compared with its network where file and images are `known`."""
    with blame(f"{step.origins['model']}.initialization"):
        there = known and not weights.missing
        return PlannedStart(weights, check_start(step.network, weights) if there else ())


def check_sources(build: Builder, networks: Iterable[Mapping[str, str]]) -> None:
    """Raise InvalidValue for labels from the very network to prune: a trained start is the same at every seed."""
    pruned = [trained_start(build.steps, network) for network in networks]
    for label in (step for step in build.steps.values() if step.gives(LabelResult)):
        if (start := trained_start(build.steps, label.inputs)) and start in pruned:
            raise InvalidValue(
                "IRP would train the network to prune, which starts from the same trained weights at every seed: "
                "the scorer would be judged on a network it learned from",
                "take labels from another network: `irp: {model: resnet20}`",
                build.steps[label.inputs["init"]].origins["model"],
            )


def check_recipe(build: Builder, spec: Spec, networks: Iterable[Mapping[str, str]]) -> None:
    """Raise InvalidValue for a recipe that scales initial weights, if a network starts from trained weights."""
    start = next((build.starts[network["init"]] for network in networks if network["init"] in build.starts), None)
    if start is not None and (spec.training.rescale or any(spec.per_method.get("rescale", ()))):
        message = f"scales initial weights, but the network starts from trained weights ({start})"
        raise InvalidValue(message, "`rescale: 0` leaves them as they are", "training.rescale")


def trained_start(steps: Mapping[str, Step], network: Mapping[str, str]) -> str:
    """Return the digest of a network with a trained start and its data, the same at every seed; empty without one."""
    options = {name: value for name, value in steps[network["init"]].options.items() if name != "seed"}
    if START not in options["model"]:
        return ""
    start = {name: value for name, value in options["model"][START].items() if name != "skip"}
    return digest({**options, "model": {**options["model"], START: start}, "data": steps[network["data"]].key})


def describe_starts(build: Builder, spec: Spec) -> Iterator[str]:
    """Yield warnings about trained starts: the results mean something else, and a scorer may not apply."""
    of = {kind: [start for name, start in build.starts.items() if _kind(build, name) == kind] for kind in ("", "IRP")}
    pruned, sources = of[""], of["IRP"]
    for start in pruned[:1]:
        yield f"networks start from trained weights ({start}): these results are not pruning at initialization"
    for source in dict.fromkeys(map(str, sources)):
        yield f"networks of IRP start from trained weights ({source})"
    yield from dict.fromkeys(f"{start.weights.name}: {note}" for start in (*pruned, *sources) for note in start.notes)
    if not any(method.needs_scorer for method in spec.methods):
        return
    untested = "its ranking of such weights is untested"
    if isinstance(spec.scorer, Pretrained):
        if pruned:
            yield f"scorer {spec.scorer.pretrained} scores trained weights; if it learned at initialization, {untested}"
    elif pruned and not sources:
        yield f"the scorer learns from networks at initialization and scores trained weights: {untested}"
    elif sources and not pruned:
        yield f"the scorer learns from trained weights and scores networks at initialization: {untested}"


def _kind(build: Builder, name: str) -> str:
    return "IRP" if build.steps[name].purpose in ("source", "scorer") else ""
