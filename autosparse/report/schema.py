"""Report of a run as plain frozen data: results, controls, scorer, cost, emitted models, checks, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from autosparse.exporters import Speed
from autosparse.report.significance import Difference

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """Trained network; accuracies are in percent, after the last epoch."""

    method: str
    sparsity: float
    """requested sparsity, or the resulting one of a budget in another currency"""
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
    """natural logarithm of the number of paths from input to output; None also without any path"""
    status: str
    """`collapsed` without a path from input to output, `at chance` if not significantly above it, else `trained`"""
    test_accuracy_low: float
    """this and the next one are the ends of the 95 % interval of counting the test images, without seed variation"""
    test_accuracy_high: float


@dataclass(frozen=True)
class MaskCost:
    """Mask cost of a method, with the rounds of IRP that it needs; the mean over seeds.

    `trainings` is the counted work in trainings of the dense network by the recipe of the spec, the same on every
    machine; None where the data are unknown. It is the ratio of `macs`, multiply-adds; `steps` are training steps, and
    `images` count once for each step, gradient or evaluation. `seconds` are measured. A learned scorer is shared, and
    part of `cost`.
    """

    method: str
    budget: str
    seconds: float
    trainings: float | None
    steps: int | None
    images: int | None
    macs: int | None


@dataclass(frozen=True)
class Emitted:
    """Emitted model; `latency_ms` and `dense_latency_ms` are medians for one image, in one runtime."""

    format: str
    method: str
    sparsity: float
    seed: int
    path: str
    bytes: int
    latency_ms: float
    dense_latency_ms: float | None
    """latency of the dense network; None if the runtime does not open it"""
    max_abs_error: float
    budget: str
    max_rel_error: float
    """the largest difference of an output over the largest output"""
    test_accuracy: float
    """accuracy in float32, after a reload in another process"""
    dense_bytes: int
    runtime: str
    """program that computed the model and the dense network"""
    threads: int
    speeds: Mapping[str, Speed]
    """batch size -> latencies, speed-up in the runtime, and the runtime's gain over PyTorch eager mode"""
    without_gain: str
    """reason why it may be no faster"""


@dataclass(frozen=True)
class LayerShare:
    """Weights of a layer, those that a mask keeps, and those of them on a path from input to output, if known."""

    name: str
    size: int
    kept: int
    effective: int | None = None


@dataclass(frozen=True)
class Profile:
    """Layers of a method's network within a budget, in order; of the first seed."""

    method: str
    budget: str
    seed: int
    layers: Sequence[LayerShare]


@dataclass(frozen=True)
class Made:
    """Step and its start in seconds since the plan's first step, without idle time."""

    step: str
    purpose: str
    begin: float
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Failed step: `status` is `diverged` where a training diverged, else `failed`."""

    step: str
    status: str
    message: str
    hint: str | None
    skipped: Sequence[str]
    """steps that were skipped because they depend on it"""


@dataclass(frozen=True)
class Missing:
    """Network of the comparison without a result, because `step` failed; `control` marks one of a control."""

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
    """Result of one check: means over its seeds, in percent, or the reason why it was skipped."""

    check: str
    test_accuracy: float | None
    validation_accuracy: float | None
    difference: float | None
    """test accuracy of the check minus the method's"""
    overlap: float | None
    """share of the method's weights that the check keeps too, where the network was rescored"""
    verdict: str
    left_out: str


@dataclass(frozen=True)
class Sanity:
    """Checks of one method within a budget, and the method itself at the same seeds."""

    subject: str
    """the method's name, or `best`"""
    method: str
    budget: str
    sparsity: float
    seeds: Sequence[int]
    test_accuracy: float
    validation_accuracy: float
    chosen_from: Mapping[str, float]
    """candidates of `best`: method -> validation accuracy, the criterion of the choice"""
    noise: float
    """standard deviation of one network's test accuracy, at least that of counting the test images"""
    noise_from: str
    noticeable: float
    """least difference that counts: twice the noise of a difference between means, at least that of counting"""
    checks: Sequence[Checked]


@dataclass(frozen=True)
class Verdict:
    """Verdict on a method within a budget, in words and numbers; accuracies in percent are means over seeds.

    Networks that collapsed or are at chance are left out: of the method, and as its references. `baseline` is the best
    one on validation images. `closed` is the share of the gap between baseline and oracle that the method closes; None
    where either is not significantly better than the baseline. Without a trained network of the method only `accuracy`
    and `words` are set.
    """

    budget: str
    accuracy: float
    shuffled: float | None
    shuffled_difference: Difference | None
    """the method minus its own layer quotas, shuffled"""
    baseline: str | None
    baseline_accuracy: float | None
    baseline_difference: Difference | None
    """the method minus the best baseline"""
    oracle: float | None
    closed: float | None
    words: str


@dataclass(frozen=True)
class Environment:
    """Software and hardware that made artifacts of a run, and the number of these steps."""

    autosparse: str
    python: str
    torch: str
    processor: str
    device: str
    threads: int
    steps: int


@dataclass(frozen=True)
class Provenance:
    """Origin of a run's results: time of its last step (ISO 8601, UTC), digest of its plan, seeds and recipe.

    `recipe` trains every network of the comparison; its defaults are written out. `environments` are ordered by their
    number of steps.
    """

    finished: str
    digest: str
    seeds: Sequence[int]
    recipe: Mapping[str, Any]
    environments: Sequence[Environment]


@dataclass(frozen=True)
class Report:
    """Run as printed by `run --json` and `report --json`."""

    schema_version: int
    run: str
    spec: str
    model: str
    dataset: str
    method: str
    steps: Mapping[str, int]
    seconds: float
    provenance: Provenance
    results: Sequence[Result]
    controls: Sequence[Result]
    irp: Sequence[Mapping[str, Any]]
    scorer: Mapping[str, Any]
    emitted: Sequence[Emitted]
    cost: Mapping[str, float]
    warnings: Sequence[str]
    unprunable: Mapping[str, str]
    """parameter of the network to prune that is not prunable -> reason"""
    mask_costs: Sequence[MaskCost]
    """costs of every method and budget"""
    oracles: Sequence[str]
    """methods that trained the very network before pruning it: no baselines"""
    sanity: Sequence[Sanity]
    """effect of altered masks, or of altered inputs of their computation, on each method's accuracy"""
    verdicts: Sequence[Verdict]
    """verdicts on the spec's method at each budget"""
    profiles: Sequence[Profile]
    """layers of the masks of the first seed"""
    timeline: Sequence[Made]
    """start and duration of its steps, in this run and earlier ones"""
    failures: Sequence[Failure]
    """failed steps; the report has all that does not depend on them"""
    missing: Sequence[Missing]
    """networks without a result because a step failed"""
    chance: float | None
    """accuracy in percent of the best constant guess on the test images; None without results"""
    test_images: int | None
    """this and the next one count the images behind accuracies; None without results"""
    validation_images: int | None

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Report:
        """Return the report from the value of `json`. Raises ValueError on anything else."""
        return TypeAdapter(cls).validate_python(value)
