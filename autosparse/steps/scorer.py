"""scorer, pretrained: a learned scorer, from the examples of every IRP source or from the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from autosparse.borders import first_line, in_short, is_of_machine
from autosparse.core.evidence import Evidence, Scorer
from autosparse.core.features import Features, columns_of, feature_groups
from autosparse.core.scorers import groups_of, score_weights, scorers
from autosparse.core.selection import selections
from autosparse.core.training.masked_steps import warmed_up
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors
from autosparse.errors import Diverged, StepError, UsageError
from autosparse.lazy_torch import torch
from autosparse.pretrained import locate_scorer, pretrained_scorers
from autosparse.registry import suggestion
from autosparse.regular_file import LARGEST_MEMORY, LARGEST_NOTE, read_regular
from autosparse.steps._base import Content, Context, Count, KeyedChoice, StateResult, check_options, finite, operations
from autosparse.steps.context import choose, generator, not_finite
from autosparse.steps.label import ROUNDS, LabelResult, example_bytes
from autosparse.steps.tuning.study import TuneResult
from autosparse.steps.workload import Counted, Facts, Workload
from autosparse.store import file_digest, load_tensors
from autosparse.store.sealed import unseal


@dataclass(frozen=True)
class ScorerResult(StateResult):
    """A scorer by its class and options; `features`, the versions of its feature groups, of a pretrained one."""

    FILE: ClassVar[str] = "scorer"
    name: str
    options: dict[str, Any]
    version: Count
    features: dict[str, Count] | None = None
    selection: KeyedChoice | None = None
    """the selection that tuning chose with it"""

    def check(self) -> None:
        """Require a registered scorer with its options, and a registered selection."""
        asked = self.asked.get("scorer", self.asked)
        fits = all(getattr(self, name) == asked.get(name, getattr(self, name)) for name in ("name", "version"))
        self.require(fits, "scorer.json: not the scorer of the plan")
        check_options(self.options, scorers[self.name].options)
        if self.selection is not None:
            choose(selections, self.selection)

    @Content
    def state(self) -> Tensors:
        """Learned tensors, with which the scorer predicts a finite score of any weight."""
        state = finite(self, "state")
        _check_state(self.json(), state)
        return state


def scorer_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of learning a scorer from the examples of every source."""
    sources = facts.count("label")
    examples = sources * example_bytes(facts, described_rounds(options["name"]))
    return Workload(
        {"name": options["name"], "sources": sources},
        {"step": 1, "scorer": facts.updates, "bytes": examples},
        ({"bytes": 3 * examples},),
        30_000,
        runs_network=False,
        counted=Counted(macs=facts.learned),
    )


@operations.register(
    result=ScorerResult,
    cost=scorer_cost,
    spec_paths={"seed": "tuning.seed", "name": "scorer", "label.*": "irp.seeds"},
)
def scorer(context: Context, *, name: str, version: int, seed: int) -> None:
    """Fit the scorer `name` with the options that input `tune` chose, and keep the selection chosen with them."""
    tuned = TuneResult.read(context.inputs["tune"])
    options, _ = scorers[name].apart(tuned.options)
    check_rounds(context, name)
    features, shares = load_examples(context)
    state = scorers[name].function(features, shares, generator("scorer", seed), context.observe, **options)
    if broken := not_finite(state):
        raise Diverged(f"training of the scorer diverged: {broken} is not finite", "lower `scorer.lr`, or tune it")
    ScorerResult(name, tuned.options, version, selection=tuned.selection).write(context.output, state=state)


def check_rounds(context: Context, scorer: str) -> None:
    """Require the rounds of every source to leave few enough weights for a scorer. Raises StepError."""
    below = scorers[scorer].facts.get("learns_below", 1.0)
    for source, artifact in context.roles("label").items():
        survivors = LabelResult.read(artifact).survivors
        if (left := survivors[-1] / sum(survivors)) > below:
            raise StepError(
                f"the rounds of source {source} in which its network learned leave {left:.0%} of the weights, but "
                f"scorer `{scorer}` learns from rounds that leave {below:.0%} or less",
                "train them longer (`irp.epochs`), or prune less in a round (`irp.per_round`)",
            )


def load_examples(context: Context) -> tuple[Features, Tensors]:
    """Load features and targets of the inputs `label.*` on the device, with layers named `source:layer`.

    Targets are survival shares. For rounds described one by one they are 1 for weights that survive the round; its
    layers are named `source@round:layer`, without empty ones.
    """
    values: Tensors = {}
    shares: Tensors = {}
    sizes: dict[str, int] = {}
    columns: tuple[str, ...] = ()
    for source, artifact in context.roles("label").items():
        result = LabelResult.read(artifact)
        columns = tuple(result.columns)
        for (number, layer), (described, share, size) in result.examples.items():
            name = f"{source}{f'@{number}' if number else ''}:{layer}"
            values[name], shares[name], sizes[name] = described.to(context.device), share.to(context.device), size
    return Features(columns, values, sizes), shares


def make_scorer(
    about: Mapping[str, Any], state: Mapping[str, torch.Tensor], recipe: Recipe, device: torch.device
) -> Scorer:
    """Build the scorer of `about`, as in `scorer.json`, and its tensors; `recipe` trains networks in its warm-up."""
    groups = tuple(about.get("features") or groups_of(about["name"], about["options"]))
    placed = {name: tensor.to(device) for name, tensor in state.items()}
    learned = partial(scorers[about["name"]].facts["predict"], placed)

    def predict(evidence: Evidence, images: int) -> Tensors:
        return score_weights(learned, groups, warmed_up(evidence, recipe, about["options"].get("warm_up", 0)), images)

    return Scorer(predict, choose(selections, about["selection"]) if "selection" in about else None)


def _check_state(about: Mapping[str, Any], state: Tensors) -> None:
    # Require a finite score of a weight. Raises errors of any kind.
    columns = columns_of(about.get("features") or groups_of(about["name"], about["options"]))
    table = Features(columns, {"weight": torch.zeros(1, len(columns))}, {"weight": 1})
    score = scorers[about["name"]].facts["predict"](state, table)["weight"]
    if score.shape != (1,) or not bool(score.isfinite().all()):
        raise ValueError(f"not the state of scorer `{about['name']}`")


ABOUT, STATE = "scorer.json", "state.safetensors"
_OPTIONAL = {"selection": dict, "starts": list}
"""`starts` are the networks that it learned from with trained starts: digests that no seed is part of."""
_KINDS = {"name": str, "version": int, "options": dict, "features": dict, "learned_from": list, "sha256": str}


def pretrained_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of copying a scorer."""
    return Workload({}, {"step": 1}, ({},), 30_000, depends_on_network=False, runs_network=False)


@operations.register(result=ScorerResult, cost=pretrained_cost)
def pretrained(context: Context, *, scorer: dict[str, Any]) -> None:
    """Load the scorer that `context.access` names; `scorer` is the description that its folder must match."""
    folder = context.access["pretrained"]
    if read_scorer(folder) != scorer:
        raise StepError(f"scorer {folder} has changed since it was planned", "run again: the plan is compiled again")
    state = read_state(folder)
    try:
        _check_state(scorer, state)
    except Exception as error:  # the folder is from anywhere
        if is_of_machine(error):
            raise
        raise StepError(f"scorer {folder} is damaged: {STATE}: {in_short(error)}") from error
    kept = ("name", "version", "options", "features", "selection")
    ScorerResult(**{name: scorer[name] for name in kept if name in scorer}).write(context.output, state=state)


def read_state(folder: str | Path) -> Tensors:
    """Load the tensors of a scorer's folder. Raises StepError for damaged or non-finite ones."""
    try:
        state = load_tensors(read_regular(locate_scorer(folder) / STATE, most=LARGEST_MEMORY))
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"scorer {folder} is damaged: {STATE}: {error}") from error
    if broken := not_finite(state):
        raise StepError(f"scorer {folder} has values that are not finite, in {broken}")
    return state


def read_scorer(folder: str | Path) -> dict[str, Any]:
    """Describe a scorer by its content: its class and options, the features it uses, and its tensors' sha256.

    `folder` may be the name of a bundled scorer. Raises UsageError for a folder without a scorer, with a damaged one,
    or with one that cannot be used here.
    """
    path = locate_scorer(folder)
    shipped = ", ".join(pretrained_scorers())
    left = suggestion(Path(folder).name, [*pretrained_scorers()]) or (
        f"a finished run leaves one in its folder, `runs/NAME-N/scorer`; by name, as a text, there is {shipped}"
    )
    if not path.is_dir():
        raise UsageError(f"there is no folder {folder}" if not path.exists() else f"{folder} is not a folder", left)
    for name in (ABOUT, STATE):
        if not (path / name).is_file():
            below = f"did you mean `{folder}/scorer`?" if (path / "scorer" / ABOUT).is_file() else left
            raise UsageError(f"{folder} has no {name}: it is not a scorer's folder", below)
    about = _about(path, folder)
    if about["name"] not in scorers:
        hint = scorers.suggest(about["name"])
        raise UsageError(f"{folder} holds a scorer `{about['name']}`, which this autosparse does not have", hint)
    if (version := scorers[about["name"]].version) != about["version"]:
        raise UsageError(
            f"{folder} was made by version {about['version']} of scorer `{about['name']}`, this autosparse has "
            f"version {version}",
            "train it again",
        )
    _check_features(about["features"], folder)
    try:
        check_options(about["options"], scorers[about["name"]].options)
    except ValueError as error:
        problem = f"{folder} is damaged: {ABOUT}: its `options` are invalid: {first_line(error)}"
        raise UsageError(problem, "copy it again from the run that left it") from None
    if (chosen := about.get("selection", {}).get("name", "top")) not in selections:
        hint = selections.suggest(str(chosen))
        raise UsageError(f"{folder} was tuned with a selection `{chosen}`, which this autosparse does not have", hint)
    return about


def _about(path: Path, folder: str | Path) -> dict[str, Any]:
    damaged = "copy it again from the run that left it: the `scorer` folder of a run, not an artifact of the cache"
    try:
        about = unseal(read_regular(path / ABOUT, most=LARGEST_NOTE))
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(about.get(name), kind)]:
            raise ValueError(f"it has no valid `{wrong[0]}`")
        same = file_digest(path / STATE) == about["sha256"]
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is damaged: {ABOUT}: {error}", damaged) from None
    if not same:
        raise UsageError(f"{folder} is damaged: {STATE} is not what {ABOUT} describes", damaged)
    for name, kind in _OPTIONAL.items():
        if not isinstance(about.get(name, kind()), kind):
            raise UsageError(f"{folder} is damaged: {ABOUT}: its `{name}` is invalid", damaged)
    return {name: about[name] for name in (*_KINDS, *_OPTIONAL) if name in about}


def _check_features(made_for: Mapping[str, Any], folder: str | Path) -> None:
    for name, version in made_for.items():
        now = feature_groups[name].version if name in feature_groups else None
        if now != version:
            has = "none" if now is None else f"version {now}"
            raise UsageError(
                f"{folder} was made for version {version} of feature group `{name}`, this autosparse has {has}",
                "train it again",
            )


def described_rounds(scorer: str) -> int:
    """Return the number of rounds at which networks are described for a scorer."""
    return ROUNDS if scorers[scorer].facts.get("progressive") else 1
