"""Verdicts on a learned method, against its own layer quotas, baselines and the oracle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from autosparse.core.presets import OTHER_WEIGHTS, SMALLER
from autosparse.report.cells import TRAINED, USELESS
from autosparse.report.schema import Verdict
from autosparse.report.significance import Accuracies, Difference, difference, signed
from autosparse.text import plural


@dataclass(frozen=True)
class Networks:
    """Networks of a method within a budget: their accuracies in percent and their statuses, by seed."""

    test: Accuracies
    validation: Accuracies = field(default_factory=dict)
    statuses: Mapping[int, str] = field(default_factory=dict)
    """`collapsed` and `at chance`; a seed without a status is trained"""

    @property
    def trained(self) -> dict[int, float]:
        """Test accuracies of the networks that are neither collapsed nor at chance."""
        return self._trained(self.test)

    @property
    def mean(self) -> float:
        """Mean test accuracy of trained networks, or of all without any."""
        return fmean((self.trained or self.test).values())

    @property
    def rank(self) -> float:
        """Mean validation accuracy of trained networks, by which baselines are ranked."""
        return fmean(self._trained(self.validation).values())

    @property
    def fault(self) -> str:
        """Reason for the lack of trained networks, such as `at chance`; empty with any."""
        return "" if self.trained else " or ".join(state for state in USELESS if state in self.statuses.values())

    def _trained(self, accuracies: Accuracies) -> dict[int, float]:
        return {seed: value for seed, value in accuracies.items() if self.statuses.get(seed, TRAINED) == TRAINED}


def judge_method(
    budget: str,
    method: Networks,
    shuffled: Networks | None,
    baselines: Mapping[str, Networks],
    oracles: Mapping[str, Networks],
    *,
    images: int,
    chance: float,
    seeds: int = 0,
    costlier: Sequence[str] = (),
) -> Verdict:
    """Judge a method within one budget; the oracle is the first one that is trained.

    Differences are paired by seed and have intervals (`report.significance`). Networks that collapsed or are at chance
    are left out, and counted; a method without any other gets no verdict, and a reference without any other is none.
    The words give the number of networks where it is below `seeds`, and name the `costlier` methods, which are no
    baselines.
    """
    remarks = _remarks(method, seeds)
    if not method.trained:
        collapsed = {*method.statuses.values()} == {USELESS[0]}
        state = "collapsed, no path from input to output" if collapsed else f"at chance ({chance:.1f} %)"
        text = f"{method.mean:.1f} %, no verdict: {state}{_bracketed(remarks)}"
        return Verdict(budget, method.mean, None, None, None, None, None, None, None, text)
    words, reached = list[str](), method.trained
    best, gained = _best(baselines, reached), None
    if best is not None:
        gained = difference(reached, baselines[best].trained, images)
        words.append(_compared(gained, f"the best baseline, {best} ({_shown(baselines[best], seeds)})", method))
    elif lost := {name: one for name, one in baselines.items() if one.fault}:
        faults = ", ".join(f"{name} ({one.mean:.1f}, {one.fault})" for name, one in lost.items())
        words.append(f"no baseline to compare with: {faults}")
    if costlier:
        words.append(f"not compared, since they cost more: {', '.join(costlier)}")
    gain = difference(reached, shuffled.trained, images) if shuffled else None
    if gain and shuffled:
        words.append(_compared(gain, f"its own layer quotas, shuffled ({_shown(shuffled, seeds)})", method))
    elif shuffled and shuffled.fault:
        words.append(f"its own layer quotas, shuffled, are no reference: {shuffled.mean:.1f}, {shuffled.fault}")
    closed = None
    first = next((name for name, one in oracles.items() if not one.fault), next(iter(oracles), None))
    if first is not None:
        oracle = oracles[first]
        gap = difference(oracle.trained, baselines[best].trained, images) if best is not None else None
        if gained and gap and gained.sign > 0 and gap.sign > 0:
            closed = gained.mean / gap.mean
            words.append(f"closes {100 * closed:.0f} % of the gap to {first} ({_shown(oracle, seeds)})")
        elif oracle.fault:
            words.append(f"{first} is no reference: {oracle.mean:.1f}, {oracle.fault}")
        else:
            words.append(f"{first} reaches {_shown(oracle, seeds)}")
    if any(each and each.seeds == 1 for each in (gained, gain)):
        remarks.append("one seed: seed variation not included")
    return Verdict(
        budget=budget,
        accuracy=method.mean,
        shuffled=shuffled.mean if shuffled else None,
        shuffled_difference=gain,
        baseline=best,
        baseline_accuracy=baselines[best].mean if best is not None else None,
        baseline_difference=gained,
        oracle=oracles[first].mean if first is not None else None,
        closed=closed,
        words=f"{', '.join([f'{method.mean:.1f} %', *filter(None, ['; '.join(words)])])}{_bracketed(remarks)}",
    )


def _best(baselines: Mapping[str, Networks], reached: Accuracies) -> str | None:
    # On validation images, of those with a seed in common; of ties the first in the spec.
    known = {name: one.rank for name, one in baselines.items() if one.trained.keys() & reached.keys()}
    return max(known, key=known.__getitem__, default=None)


_SIGNIFICANCE = {1: "significantly better than", 0: "no significant difference from", -1: "significantly worse than"}


def _compared(gain: Difference | None, name: str, method: Networks) -> str:
    assert gain is not None
    fewer = f" over {plural(gain.seeds, 'common seed')}" if gain.seeds < len(method.trained) else ""
    ends = f"{signed(gain.low)} to {signed(gain.high)}"
    return f"{_SIGNIFICANCE[gain.sign]} {name}: {signed(gain.mean)} points{fewer}, 95 % interval {ends}"


def _shown(networks: Networks, seeds: int) -> str:
    return ", ".join([f"{networks.mean:.1f}", *_remarks(networks, seeds)])


def _remarks(networks: Networks, seeds: int) -> list[str]:
    # Missing seeds, and those of networks that are left out; one word for all alike stands elsewhere.
    number, states = len(networks.test), Counter(networks.statuses.values())
    absent = [f"{number} of {seeds} seeds"] if number < seeds else []
    if len(states) < 2 and not networks.trained:
        return absent
    out = ", left out" if networks.trained else ""
    return absent + [f"{states[state]} of {number} seeds {state}{out}" for state in USELESS if state in states]


def _bracketed(remarks: Sequence[str]) -> str:
    return f" ({'; '.join(remarks)})" if remarks else ""


_NOTICEABLE = 1.05  # ratio of costs below which two methods cost as much


def judge_results(
    method: str,
    results: Sequence[Any],
    controls: Sequence[Any],
    oracles: Collection[str],
    learned: Collection[str],
    *,
    images: int,
    chance: float,
    seeds: int = 0,
    costs: Mapping[tuple[str, str], float] | None = None,
) -> list[Verdict]:
    """Return a verdict for every budget with results of a method; `results` and `controls` are those of a report.

    Baselines are all other methods except `oracles`, which trained the very network before, and `learned` ones; of
    whole channels also the controls of a smaller network, of a ticket also its masks on other weights. Methods and
    controls without a result at a seed of the method are skipped. `seeds` is the number of seeds in the spec. With
    `costs` of masks and training, by method and budget, a method that costs more is no baseline.
    """
    known = costs or {}
    cells, shuffled = _networks(results), _networks(controls)
    verdicts = []
    for (name, budget), subject in cells.items():
        if name != method:
            continue
        others = {
            other: cell
            for (other, at), cell in cells.items()
            if at == budget and other not in (method, "dense") and cell.test.keys() & subject.test.keys()
        }
        shuffle = shuffled.get((f"{method}.shuffle", budget))
        limit = _NOTICEABLE * known.get((method, budget), math.inf)
        rivals = [other for other in others if other not in oracles and other not in learned]
        costlier = [other for other in rivals if known.get((other, budget), 0.0) > limit]
        as_rivals = {name: shuffled.get((f"{method}.{name}", budget)) for name in (*SMALLER, OTHER_WEIGHTS)}
        others |= {name: cell for name, cell in as_rivals.items() if cell and cell.test.keys() & subject.test.keys()}
        verdicts.append(
            judge_method(
                budget,
                subject,
                shuffle if shuffle and shuffle.test.keys() & subject.test.keys() else None,
                {
                    name: cell
                    for name, cell in others.items()
                    if name not in oracles and name not in learned and name not in costlier
                },
                {name: cell for name, cell in others.items() if name in oracles},
                images=images,
                chance=chance,
                seeds=seeds,
                costlier=costlier,
            )
        )
    return verdicts


def _networks(results: Iterable[Any]) -> dict[tuple[str, str], Networks]:
    cells: dict[tuple[str, str], list[Any]] = {}
    for result in results:
        cells.setdefault((result.method, result.budget), []).append(result)
    return {
        cell: Networks(
            {one.seed: one.test_accuracy for one in alike},
            {one.seed: one.validation_accuracy for one in alike},
            {one.seed: one.status for one in alike if one.status != TRAINED},
        )
        for cell, alike in cells.items()
    }
