"""The report of a run as plain frozen data: results, controls, scorer, cost, emitted models, checks, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """One trained network. Accuracies are in percent, after the last epoch."""

    method: str
    sparsity: float
    """as asked for, or the one that a budget in another currency came to"""
    seed: int
    kept: int
    total: int
    effective_sparsity: float | None
    """None for a network whose paths cannot be followed"""
    macs: int
    test_accuracy: float
    validation_accuracy: float
    budget: str
    """name of the budget"""
    dense_macs: int
    effective_macs: int | None
    """multiply-adds through weights on a path; this and the next two are None where paths cannot be followed"""
    effective_nodes: float | None
    """share of output channels that a path enters"""
    paths: float | None
    """natural logarithm of the number of paths from input to output; None, too, where there is none"""


@dataclass(frozen=True)
class MaskCost:
    """Seconds that a method's masks took, with the rounds of IRP that they need; the mean over seeds.

    `trainings` is the same in trainings of the dense network, or of the pruned ones where the run trained no dense one;
    None where these were not timed. A learned scorer is shared, and counted in `cost`.
    """

    method: str
    budget: str
    seconds: float
    trainings: float | None


@dataclass(frozen=True)
class Emitted:
    """One emitted model. Latencies are those of one image."""

    format: str
    method: str
    sparsity: float
    seed: int
    path: str
    bytes: int
    latency_ms: float
    dense_latency_ms: float
    max_abs_error: float
    budget: str
    max_rel_error: float
    """the largest difference of an output over the largest output"""
    test_accuracy: float
    """in float32, after a reload in another process"""
    dense_bytes: int
    batch_latencies_ms: Mapping[str, Sequence[float]]
    """images at once -> of the emitted model, and of the same network without a zero"""
    without_gain: str
    """why it may be no faster"""


@dataclass(frozen=True)
class LayerShare:
    """A layer's weights, those that a mask keeps, and those of them on a path from input to output, if known."""

    name: str
    size: int
    kept: int
    effective: int | None = None


@dataclass(frozen=True)
class Profile:
    """The layers of a method's network within a budget, in order; of the first seed."""

    method: str
    budget: str
    seed: int
    layers: Sequence[LayerShare]


@dataclass(frozen=True)
class Made:
    """A step and when it was made: seconds since the first of its plan, without those in which none was made."""

    step: str
    purpose: str
    begin: float
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A step that failed: `status` is `diverged` where a training diverged, else `failed`."""

    step: str
    status: str
    message: str
    hint: str | None
    skipped: Sequence[str]
    """steps that were skipped because they depend on it"""


@dataclass(frozen=True)
class Missing:
    """A network of the comparison without a result, because `step` failed; `control` marks one of a control."""

    method: str
    budget: str
    sparsity: float | None
    """None where it depends on masks that were not made"""
    seed: int
    control: bool
    status: str
    """`diverged` or `failed`"""
    step: str


@dataclass(frozen=True)
class Checked:
    """One check: means over its seeds, in percent, or the reason why it is left out."""

    check: str
    test_accuracy: float | None
    validation_accuracy: float | None
    difference: float | None
    """of test accuracies, the check's less the method's"""
    overlap: float | None
    """share of the method's weights that it keeps too, where the network was scored anew"""
    verdict: str
    left_out: str


@dataclass(frozen=True)
class Sanity:
    """The checks of one method within a budget, and the method itself at the same seeds."""

    subject: str
    """the method's name, or `best`"""
    method: str
    budget: str
    sparsity: float
    seeds: Sequence[int]
    test_accuracy: float
    validation_accuracy: float
    chosen_from: Mapping[str, float]
    """of `best`: method -> validation accuracy, which it was chosen by"""
    noise: float
    """standard deviation of one network's test accuracy"""
    noise_from: str
    noticeable: float
    """the least difference that counts: twice the noise of one between means"""
    checks: Sequence[Checked]


@dataclass(frozen=True)
class Verdict:
    """Verdict on a method within a budget, in words and numbers; accuracies in percent are means over seeds.

    `baseline` is the best one on validation images, `noise` that of the difference from `shuffled`. `closed` is the
    share of the gap between baseline and oracle that the method closes; None where either is within the noise.
    """

    budget: str
    accuracy: float
    shuffled: float | None
    baseline: str | None
    baseline_accuracy: float | None
    oracle: float | None
    closed: float | None
    noise: float | None
    words: str


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
    unprunable: Mapping[str, str]
    """parameter of the network to prune that is not prunable -> why"""
    mask_costs: Sequence[MaskCost]
    """of every method and budget"""
    oracles: Sequence[str]
    """methods that trained the very network before they pruned it: no baselines"""
    sanity: Sequence[Sanity]
    """what is left of each method's accuracy when its masks, or what they are made from, are altered"""
    verdicts: Sequence[Verdict]
    """of the spec's method at each budget"""
    profiles: Sequence[Profile]
    """layers of the masks of the first seed"""
    timeline: Sequence[Made]
    """times at which its steps were made, by this run and those before it"""
    failures: Sequence[Failure]
    """steps that failed; all that does not depend on them is in the report"""
    missing: Sequence[Missing]
    """networks without a result because a step failed"""

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Report:
        """The report that `json` gave. Raises ValueError on anything else."""
        return TypeAdapter(cls).validate_python(value)
