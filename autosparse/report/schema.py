"""Report of a run as plain frozen data: results, controls, scorer, cost, emitted models, checks, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, ConfigDict, TypeAdapter

from autosparse.exporters import Speed
from autosparse.report.recipes import MethodRecipe, Reference, check_numbers
from autosparse.report.significance import Difference
from autosparse.steps._base import Count, Percent, Positive, Real, Share
from autosparse.steps.latency import LatencyCheck

SCHEMA_VERSION = 1

Amount = Annotated[float, Ge(0), Le(1e100)]
"""A finite number, such as seconds; sums of many are finite too."""


@dataclass(frozen=True)
class Result:
    """Trained network; accuracies are in percent, after the last epoch."""

    method: str
    sparsity: Share
    """requested sparsity, or the resulting one of a budget in another currency"""
    seed: int
    kept: Count
    total: Positive
    effective_sparsity: Share | None
    """None for a network whose paths cannot be followed"""
    macs: Count
    test_accuracy: Percent
    validation_accuracy: Percent
    budget: str
    """name of the budget"""
    dense_macs: Count
    effective_macs: Count | None
    """multiply-adds through weights on a path; this and the next two are None where paths cannot be followed"""
    effective_nodes: Share | None
    """share of output channels that a path enters"""
    paths: Real | None
    """natural logarithm of the number of paths from input to output; None also without any path"""
    status: str
    """`collapsed` without a path from input to output, `at chance` if not significantly above it, else `trained`"""
    test_accuracy_low: Percent
    """this and the next one are the ends of the 95 % interval of counting the test images, without seed variation"""
    test_accuracy_high: Percent


@dataclass(frozen=True)
class MaskCost:
    """Cost of a method's masks, with the rounds of IRP that they need, and of the training; the mean over seeds.

    `trainings` is the counted work of the masks in trainings of the dense network by the recipe of the spec, the same
    on every machine; None where the data are unknown. It is the ratio of `macs`, multiply-adds; `steps` are training
    steps, and `images` count once for each step, gradient or evaluation. `seconds` are measured. A learned scorer is
    shared, and part of `cost`.
    """

    method: str
    budget: str
    seconds: Amount
    trainings: Amount | None
    steps: Count | None
    images: Count | None
    macs: Count | None
    training: Amount = 1.0
    """counted work of the training, in dense trainings"""
    training_seconds: Amount = 0.0


@dataclass(frozen=True)
class Emitted:
    """Emitted model; `latency_ms` and `dense_latency_ms` are medians for one image, in one runtime."""

    format: str
    method: str
    sparsity: Share
    seed: int
    path: str
    bytes: Positive
    latency_ms: Amount
    dense_latency_ms: Amount | None
    """latency of the dense network; None if the runtime does not open it"""
    max_abs_error: Real
    budget: str
    max_rel_error: Real
    """the largest difference of an output over the largest output"""
    test_accuracy: Percent
    """accuracy in float32, after a reload in another process"""
    dense_bytes: Positive
    runtime: str
    """program that computed the model and the dense network"""
    threads: Positive
    speeds: Mapping[str, Speed]
    """batch size -> latencies, speed-up in the runtime, and the runtime's gain over PyTorch eager mode"""
    without_gain: str
    """reason why it may be no faster"""


@dataclass(frozen=True)
class LayerShare:
    """Weights of a layer, those that a mask keeps, and those of them on a path from input to output, if known."""

    name: str
    size: Count
    kept: Count
    effective: Count | None = None


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
    begin: Real
    seconds: Amount


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
    sparsity: Share | None
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
    test_accuracy: Percent | None
    validation_accuracy: Percent | None
    difference: Real | None
    """test accuracy of the check minus the method's"""
    overlap: Share | None
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
    sparsity: Share
    seeds: Sequence[int]
    test_accuracy: Percent
    validation_accuracy: Percent
    chosen_from: Mapping[str, Percent]
    """candidates of `best`: method -> validation accuracy, the criterion of the choice"""
    noise: Real
    """standard deviation of one network's test accuracy, at least that of counting the test images"""
    noise_from: str
    noticeable: Real
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
    accuracy: Percent
    shuffled: Percent | None
    shuffled_difference: Difference | None
    """the method minus its own layer quotas, shuffled"""
    baseline: str | None
    baseline_accuracy: Percent | None
    baseline_difference: Difference | None
    """the method minus the best baseline"""
    oracle: Percent | None
    closed: Real | None
    words: str


@dataclass(frozen=True)
class Environment:
    """Software and hardware that made artifacts of a run, and the number of these steps."""

    autosparse: str
    python: str
    torch: str
    processor: str
    device: str
    threads: Count
    steps: Count


@dataclass(frozen=True)
class Provenance:
    """Origin of a run's results: time of its last step (ISO 8601, UTC), digest of its plan, seeds and recipe.

    `recipe` trains every network of the comparison; its defaults are written out. `environments` are ordered by their
    number of steps.
    """

    finished: str
    digest: str
    seeds: Sequence[int]
    recipe: Annotated[Mapping[str, Any], AfterValidator(check_numbers)]
    environments: Sequence[Environment]


@dataclass(frozen=True)
class Start:
    """Trained weights that the networks start from, and the sha256 of their file."""

    weights: str
    sha256: str

    def __str__(self) -> str:
        about = f"{self.weights}, sha256 {self.sha256[:12]}…"
        return f"networks start from trained weights ({about}): these results are not pruning at initialization"


@dataclass(frozen=True)
class _Round:
    """Round of IRP, as `build` describes it."""

    model: str
    seed: int
    source: str
    round: Positive
    kept: Positive
    total: Positive
    validation_accuracy: Percent


@dataclass(frozen=True)
class _Scorer:
    """Scorer of a run, as `scorer` describes it: held-out metrics are None without tuning."""

    name: str
    options: Mapping[str, Any]
    tuned: Mapping[str, Any]
    objective: str
    split: str
    value: Real | None
    rank_correlation: Real | None
    rank_correlation_within_layers: Real | None
    precision: Real | None
    beyond_quotas: Real | None
    quotas: Real | None
    proxy: Percent | None
    trials: Sequence[Real]
    space: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    settings: Sequence[Mapping[str, Any]]
    folds: Sequence[Sequence[Real]]
    stopped: Sequence[bool]
    importances: Mapping[str, Real]
    progressive: bool
    pretrained: bool
    taken_from: str | None
    path: str | None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _check_steps(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if {*value} != {"run", "reuse", "resume"}:
        raise ValueError("not the numbers of steps that ran, were reused and resumed")
    return value


def _check_round(value: Mapping[str, Any]) -> Mapping[str, Any]:
    _adapter(_Round).validate_python(value)
    return check_numbers(value)


def _check_scorer(value: Mapping[str, Any]) -> Mapping[str, Any]:
    check_numbers(value)
    if value:
        _adapter(_Scorer).validate_python(value)
    if len({len(value.get(name, ())) for name in ("trials", "settings", "folds", "stopped")}) > 1:
        raise ValueError("`trials`, `settings`, `folds` and `stopped` are not of the same trials")
    return value


@dataclass(frozen=True)
class Report:
    """Run as printed by `run --json` and `report --json`."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)
    schema_version: int
    run: str
    spec: str
    model: str
    dataset: str
    method: str
    steps: Annotated[Mapping[str, Count], AfterValidator(_check_steps)]
    seconds: Amount
    provenance: Provenance
    results: Sequence[Result]
    controls: Sequence[Result]
    irp: Sequence[Annotated[Mapping[str, Any], AfterValidator(_check_round)]]
    scorer: Annotated[Mapping[str, Any], AfterValidator(_check_scorer)]
    emitted: Sequence[Emitted]
    cost: Mapping[str, Amount]
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
    chance: Percent | None
    """accuracy in percent of the best constant guess on the test images; None without results"""
    test_images: Positive | None
    """this and the next one count the images behind accuracies; None without results"""
    validation_images: Count | None
    start: Start | None = None
    """trained weights that its networks start from; left out for pruning at initialization"""
    limits: Mapping[str, Count] = field(default_factory=dict)
    """budget relative to the dense network -> maximum in its currency; left out without any"""
    latencies: Sequence[LatencyCheck] = ()
    """predictions of latency budgets and their measurements; left out without any"""
    recipes: Sequence[MethodRecipe] = ()
    """recipes of methods that chose their own; left out without any"""
    references: Sequence[Reference] = ()
    """dense networks of several lengths; left out without any"""

    def json(self) -> dict[str, Any]:
        optional = ("start", "limits", "latencies", "recipes", "references")
        return {name: value for name, value in asdict(self).items() if name not in optional or value}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Report:
        """Return the report from the value of `json`. Raises ValueError on anything else, such as infinite numbers."""
        kind: Any = cls
        report: Report = _adapter(kind).validate_python(value)
        return report
