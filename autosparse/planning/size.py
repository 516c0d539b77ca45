"""The size of a plan, counted from the numbers in its spec before any step exists."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from autosparse.errors import InvalidValue
from autosparse.planning.checks import controls_of
from autosparse.spec import BEST, DENSE, Pretrained, Spec
from autosparse.spec.learning import MOST_ROUNDS

MOST_STEPS, MOST_INPUTS = 50_000, 2_000_000
"""Numbers of steps and of their inputs, both of which a plan lists one by one: it then takes seconds."""


@dataclass(frozen=True)
class _Part:
    # Steps and their inputs, the numbers that multiply, and the path of one of them in the spec.
    steps: int
    inputs: int
    numbers: str
    path: str


def check_size(spec: Spec) -> None:
    """Raise InvalidValue for a resolved spec with more steps, or more inputs of steps, than a plan may have."""
    parts = [*_parts(spec)]
    for kind, most in (("steps", MOST_STEPS), ("inputs", MOST_INPUTS)):
        if (total := sum(getattr(part, kind) for part in parts)) > most:
            largest = max(parts, key=lambda part: int(getattr(part, kind)))
            noun = "steps" if kind == "steps" else "inputs of steps"
            raise InvalidValue(
                f"the plan has about {total:,} {noun}, above {most:,}: {getattr(largest, kind):,} come from "
                f"{largest.numbers}",
                "lower one of these numbers, or write several specs: they share cached steps",
                largest.path,
            )


def _own_rounds(spec: Spec, otherwise: int) -> int:
    # Rounds of IRP on the network to prune: as many as the strictest budget needs, if it is a sparsity.
    sparsity, removed = max((one for one in spec.budget if isinstance(one, float)), default=0.0), spec.irp.per_round
    needed = sparsity / removed if spec.irp.per_round_of == "all" else math.log1p(-sparsity) / math.log1p(-removed)
    return math.ceil(min(needed, MOST_ROUNDS - 1)) + 1 if sparsity else otherwise  # `needed` may be infinite


def _parts(spec: Spec) -> Iterator[_Part]:
    seeds, budgets = len(spec.seeds), len(spec.budget)
    controls = [*controls_of(spec)]
    methods = [spec.method, *(method for _, method in controls if method), *spec.compared]
    masks = 1 + len(controls) + len(spec.compared)
    networks = budgets * masks + (DENSE in spec.compare) + len(spec.dense_lengths)
    cells = (seeds + len(spec.recipes)) * networks
    numbers = f"{seeds:,} `seeds` x {budgets:,} budgets x {masks:,} methods and controls"
    yield _Part(seeds + 3 * cells, 11 * cells, numbers, "seeds" if seeds >= budgets else "budget")
    naming = sum(bool(format.entry.facts.get("others")) for format in spec.emit)
    yield _Part(budgets * len(spec.emit), naming * cells, f"{numbers}, which emitted models name", "emit")
    if spec.sanity is not None:
        checked = min(spec.sanity.seeds, seeds) * len(spec.sanity.checks)
        named = len(spec.sanity.methods) * 4 + (BEST in spec.sanity.methods) * len(spec.baselines) * spec.sanity.seeds
        numbers = f"{spec.sanity.seeds:,} `sanity.seeds` x {len(spec.sanity.checks)} checks"
        yield _Part(checked * len(spec.sanity.methods), checked * named, numbers, "sanity.seeds")
    rounds = spec.irp.rounds
    assert isinstance(rounds, int), "check_size takes a resolved spec"
    if any(method.needs_rounds for method in methods):
        count = _own_rounds(spec, rounds)
        numbers = f"{count:,} rounds by `irp.per_round` x {seeds:,} `seeds`"
        yield _Part(
            seeds * (count + 1), seeds * count * (4 + budgets), numbers, "seeds" if seeds >= count else "irp.per_round"
        )
    if spec.learns and not isinstance(spec.scorer, Pretrained):
        sources = len(spec.irp.networks) * len(spec.irp.seeds)
        numbers = f"{rounds:,} `irp.rounds` x {sources:,} sources (`irp.models` x `irp.seeds`)"
        path = "irp.rounds" if rounds >= sources else "irp.seeds"
        yield _Part(sources * (rounds + 3), sources * 5 * (rounds + 3), numbers, path)
        trials = spec.tuning.trials
        assert isinstance(trials, int), "check_size takes a resolved spec"
        earlier = max(0, trials - spec.tuning.parallel) / 2
        numbers = f"{trials:,} `tuning.trials`, each of which reads the labels and all earlier trials"
        yield _Part(trials + 2, round(trials * (sources + 3 + earlier)), numbers, "tuning.trials")
