"""Warnings of a report: what happened, its meaning and the remedy; one line for each method and reason."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.core.graph.connectivity import Finding
from autosparse.exporters.quantization import loses_accuracy
from autosparse.planning.model import Cell, Step
from autosparse.report.cells import TRAINED, USELESS, missing_by_cell, statuses_by_cell
from autosparse.report.finished import Finished
from autosparse.report.schema import Failure, Missing, Result
from autosparse.report.significance import accuracy_interval, counting_noise
from autosparse.steps.emit import EmitResult, FailedEmission, read_emission
from autosparse.steps.label import LabelResult
from autosparse.steps.mask_result import read_masks
from autosparse.steps.train import EvaluateResult
from autosparse.store import Artifact
from autosparse.text import listed, plural

_NAMED = 3  # failed steps listed for one reason


def describe_warnings(
    finished: Finished, failures: Sequence[Failure], missing: Sequence[Missing], results: Sequence[Result]
) -> list[str]:
    """Return the warnings of a run, the gravest first; `results` are those of methods and controls."""
    every = [
        *finished.plan.remarks,
        *describe_failures(failures, missing, results),
        *describe_useless(results),
        *describe_notes(finished),
        *_collapsed_rounds(finished),
        *_disconnected(finished),
        *failed_emissions(finished),
        *_less_accurate(finished),
        *_noise(finished, results),
    ]
    return [*dict.fromkeys(every)]


def describe_failures(failures: Iterable[Failure], missing: Sequence[Missing], results: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for every reason of failures, with its steps, and for every method whose means lack a seed.

    `results` are those of methods and controls.
    """
    reasons: dict[str, list[Failure]] = {}
    for failure in failures:
        reasons.setdefault(failure.message.removeprefix(f"step `{failure.step}` failed: "), []).append(failure)
    for reason, alike in reasons.items():
        skipped = sum(len(failure.skipped) for failure in alike)
        after = f"; {plural(skipped, 'dependent step')} skipped" if skipped else ""
        names = listed([f"`{failure.step}`" for failure in alike], _NAMED)
        yield f"step{'s' * (len(alike) > 1)} {names} failed: {reason}{after}"
    seeds = Counter((result.method, result.budget) for result in results)
    partial: dict[tuple[str, str], list[str]] = {}  # method and words -> budgets
    for (method, budget), cells in missing_by_cell(missing).items():
        if left := seeds[method, budget]:
            causes = ", ".join(f"seed {one.seed} {one.status}" for one in cells)
            words = f"the mean over {left} of {left + len(cells)} seeds: {causes}"
            partial.setdefault((method, words), []).append(budget)
    for (method, words), budgets in partial.items():
        yield f"{method} at {enumerated(budgets)} is {words}"


def describe_useless(results: Iterable[Result]) -> Iterator[str]:
    """Yield a sentence for every method with networks at chance; those of the dense network question the recipe."""
    budgets: dict[tuple[str, str], list[str]] = {}  # method and part of its seeds -> budgets
    for (method, budget), statuses in statuses_by_cell(results).items():
        if number := statuses.count(USELESS[1]):
            part = f" at {number} of {len(statuses)} seeds" if number < len(statuses) else ""
            budgets.setdefault((method, part), []).append(budget)
    for (method, part), at in budgets.items():
        if method == "dense":
            meaning = "its mean is no reference" if part else "no comparison means anything"
            yield f"the dense network is at chance{part}: {meaning}; train it longer or at another rate"
        else:
            meaning = "the mean includes networks that have not learned" if part else "its networks have not learned"
            yield f"{method} at {enumerated(at)} is at chance{part}: {meaning}"


def enumerated(budgets: Iterable[object]) -> str:
    """Join budgets by commas, the last by `and`."""
    *others, last = map(str, budgets)
    return f"{', '.join(others)} and {last}" if others else last


def describe_notes(finished: Finished) -> list[str]:
    """Return the warnings of the plan, and the notes of all masks, each with its methods."""
    methods: dict[str, dict[str, None]] = {}  # note -> the methods with it, in order
    for cell in finished.cells:
        if cell.mask and finished.has(cell.mask):
            for note in read_masks(finished.open(cell.mask)).notes:
                methods.setdefault(note, {})[cell.method] = None
    return [*finished.plan.warnings, *(f"{', '.join(names)}: {note}" for note, names in methods.items())]


def failed_emissions(finished: Finished) -> list[str]:
    """Return the reason for every format of a requested model that is not exported, with its budgets."""
    budgets: dict[tuple[str, str, str], dict[str, None]] = {}
    for step, cell, _, measured in emissions(finished):
        if isinstance(measured, FailedEmission):
            budgets.setdefault((tag_of(step), cell.method, measured.failed), {})[cell.budget] = None
    return [
        f"{tag} of {method} at {enumerated(at)} is not exported: {reason}"
        for (tag, method, reason), at in budgets.items()
    ]


def emissions(finished: Finished) -> Iterator[tuple[Step, Cell, Artifact, EmitResult | FailedEmission]]:
    """Yield the export steps with an artifact, by the cell of their network; one model may fit several budgets."""
    cells = [cell for cell in finished.plan.cells if cell.role == "method"]
    for step in finished.with_result(EmitResult):
        for cell in cells:
            if cell.evaluate == step.inputs["evaluate"]:
                artifact = finished.open(step.name)
                yield step, cell, artifact, read_emission(artifact)


def _less_accurate(finished: Finished) -> Iterator[str]:
    for step, cell, _, measured in emissions(finished):
        before = EvaluateResult.read(finished.open(cell.evaluate)).test_accuracy
        if isinstance(measured, EmitResult) and loses_accuracy(before, measured.test_accuracy):
            falls = f"{before:.2f} % to {measured.test_accuracy:.2f} %"
            where = f"{tag_of(step)} of {cell.method} at {cell.budget}"
            yield f"{where}: test accuracy falls from {falls}; emit the format without rounding to keep it"


def tag_of(step: Step) -> str:
    """Return the format of an export step with its options, which may hold slashes."""
    return step.name.removeprefix("emit/").rsplit("/", 3)[0]  # then method, budget and seed, which do not


def _collapsed_rounds(finished: Finished) -> Iterator[str]:
    for step in finished.with_result(LabelResult):
        result = LabelResult.read(finished.open(step.name))
        used, made = result.rounds_used, result.rounds_made
        source = f"IRP of {step.name.removeprefix('label/')}"
        if not used:
            yield f"{source}: no round learns, so its labels carry no information; train for more epochs"
        elif used < made:
            yield f"{source}: networks stay at chance from round {used + 1} of {made} (dropped from the labels)"


def _disconnected(finished: Finished) -> Iterator[str]:
    networks = []
    for cell in finished.cells:
        result = EvaluateResult.read(finished.open(cell.evaluate))
        networks.append(Examined(cell.method, cell.budget, cell.seed, result.kept, result.findings or ()))
    method = finished.plan.spec.method  # whole channels take no repair
    yield from describe_disconnected(networks, "" if method.prunes_channels else method.name)


@dataclass(frozen=True)
class Examined:
    """Trained network, the number of its weights, and its disconnected parts."""

    method: str
    budget: str
    seed: int
    kept: int
    findings: Sequence[Finding]


def describe_disconnected(networks: Iterable[Examined], repairable: str) -> Iterator[str]:
    """Yield a sentence for every method with disconnected networks; the spec may repair the masks of `repairable`."""
    by_method: dict[str, list[Examined]] = {}
    for network in networks:
        by_method.setdefault(network.method, []).append(network)
    for method, examined in by_method.items():
        cut = [network for network in examined if network.findings]
        if not cut:
            continue
        worst = min(cut, key=lambda network: network.kept)
        budgets = dict.fromkeys(network.budget for network in cut)
        number = sum(network.budget in budgets for network in examined)
        part = f" ({len(cut)} of {number} networks)" if len(cut) < number else ""
        alike = {_messages(network) for network in cut} == {_messages(worst)}
        where = "" if alike else f"worst at {worst.budget}, seed {worst.seed}: "
        first, *others = _messages(worst)
        more = f" and {len(others)} more" if others else ""
        remedy = "; `method.repair: reconnect` prevents it" if method == repairable else ""
        yield f"{method} at {enumerated(budgets)}{part}: {where}{first}{more}{remedy}"


def _messages(network: Examined) -> tuple[str, ...]:
    # All parts of a disconnected network are disconnected.
    first = network.findings[0]
    return (first.message,) if first.kind == "network" else tuple(finding.message for finding in network.findings)


_WIDE = 5.0  # points: an accuracy that is known less precisely gets a warning


def _noise(finished: Finished, results: Sequence[Result]) -> Iterator[str]:
    seeds = len(finished.plan.spec.seeds)
    trained = [result.test_accuracy for result in results if result.status == TRAINED]
    yield from describe_noise(trained, seeds, finished.test.images)


def describe_noise(accuracies: Sequence[float], seeds: int, images: int) -> Iterator[str]:
    """Yield sentences on the noise of counting test images: of differences, and of accuracies on a small test set.

    `accuracies` are those of trained networks. Three seeds or more show the noise of differences themselves.
    """
    if not accuracies:
        return
    middle, counted = statistics.median(accuracies), plural(images, "test image")
    best = accuracy_interval(max(accuracies), images)
    if max(one.high - one.low for one in (best, accuracy_interval(middle, images))) > 2 * _WIDE:
        yield (
            f"{counted}: the 95 % interval of {best.mean:.4g} % is {best.low:.0f} % to {best.high:.0f} %; "
            f"hold out more images for testing"
        )
    if seeds < 3:
        noise, number = counting_noise(middle, images), "one seed" if seeds == 1 else f"{seeds} seeds"
        gain = "mean ± sd" if seeds == 1 else "a reliable sd"
        yield (
            f"{number}, {counted}: differences below about {noise:.1f} points are noise, "
            f"and seed variation adds to it; set `seeds: [0, 1, 2]` for {gain}"
        )
