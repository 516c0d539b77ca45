"""The builder of a plan: one step for each key, each dataset opened once, options as keys hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autosparse.core.training.under_masks import at_defaults
from autosparse.datasets import Source, open_source
from autosparse.errors import InvalidValue, OwnCodeError, UsageError
from autosparse.models.facts import NetworkFacts
from autosparse.planning.model import PlannedStart, Step
from autosparse.registry import OneOf, Option, Range
from autosparse.spec import Pretrained, Spec
from autosparse.spec.choices import Choice
from autosparse.spec.learning import whole
from autosparse.steps import operations
from autosparse.store import digest, key_of


class Builder:
    """A plan under construction: steps by name, and the sources that describe its datasets."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.sources: dict[str, Source] = {}
        self.starts: dict[str, PlannedStart] = {}
        self._named: dict[str, str] = {}
        self._opened: dict[str, Source] = {}

    def add(
        self,
        name: str,
        operation: str,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        purpose: str,
        *,
        access: Mapping[str, Any] | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> str:
        """Add a step and return its name, or the name of an earlier step with the same key.

        `paths` are the paths of the spec that options come from, where they differ from those of the step's kind.
        """
        kind = operations[operation]
        version = kind.version
        key = key_of(operation, version, options, {role: self.steps[step].key for role, step in inputs.items()})
        if key not in self._named:
            assert name not in self.steps, f"two different steps are named {name}"
            self._named[key] = name
            # Any step that rebuilds the network must reach its code, as `init` does.
            start = self.steps[inputs["init"]].access if "init" in inputs else {}
            reach = {**start, **(access or {})}
            origins = {**kind.facts.get("spec_paths", {}), **(paths or {})}
            self.steps[name] = Step(name, operation, version, options, dict(inputs), key, purpose, reach, origins)
        return self._named[key]

    def open(self, dataset: Choice) -> Source:
        """Return a dataset's description of itself; networks that share the dataset open it once."""
        asked = digest([dataset.name, dataset.options()])
        if asked not in self._opened:
            self._opened[asked] = open_source(dataset.name, dataset.options())
        return self._opened[asked]


@contextmanager
def blame(path: str) -> Iterator[None]:
    """Attribute a UsageError raised inside to the value at a path of the spec, such as `irp.models.0`."""
    try:
        yield
    except (InvalidValue, OwnCodeError):
        raise
    except UsageError as error:
        raise InvalidValue(error.message, error.hint, path) from error


def facts_of(start: Step) -> NetworkFacts:
    """Return the network of an `init` step on paper. Raises UsageError for images that it cannot be built for."""
    with blame("model"):
        return start.network.facts


def keyed_recipe(training: Any) -> dict[str, Any]:
    """Return a recipe's fields as options of a step. They omit fields that act under masks alone, at their defaults."""
    options: dict[str, Any] = training.model_dump(mode="json")
    options["epochs"] = whole(options["epochs"])
    usual = at_defaults()
    return {name: value for name, value in options.items() if name not in usual or value != usual[name]}


def scorer_of(spec: Spec, steps: Mapping[str, Step]) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of the scorer that a plan of these steps trains or loads; an empty name without one."""
    if not isinstance(spec.scorer, Pretrained):
        return spec.scorer.name, spec.scorer.options()
    about: Mapping[str, Any] = {"name": "", "options": {}}
    if "scorer" in steps:
        about = steps["scorer"].options["scorer"]
    return about["name"], about["options"]


def keyed_proxy(tuning: Any, method: Any, training: Any) -> dict[str, Any]:
    """Return the options of trials for a proxy's training by the recipe of IRP; empty for weight 0."""
    proxy = tuning.proxy
    if proxy is None or not proxy.weight:
        return {}
    recipe = {name: value for name, value in keyed_recipe(training).items() if name != "epochs"}
    settings = {"proxy": proxy.model_dump(mode="json"), "method": method.choices(), "training": recipe}
    chosen = {_called(choice): choice.keyed() for choice in tuning.selections}
    return {**settings, "selections": chosen} if chosen else settings


def _called(choice: Choice) -> str:
    # The name in a proposal: `sampled temperature 0.3`.
    return " ".join([choice.name, *(f"{name} {value}" for name, value in choice.options().items())])


def tag_of(choice: Choice) -> str:
    """Return a choice's part in a step's or folder's name, with non-default options: `compact`, `compact-float16`."""
    unasked = {name: option.default for name, option in choice.entry.options.items()}
    return "-".join(
        [choice.name, *(_tag(name, value) for name, value in choice.options().items() if value != unasked.get(name))]
    )


def _tag(name: str, value: Any) -> str:
    return (name if value else f"no_{name}") if isinstance(value, bool) else str(value)


def tunable_limits(option: Option) -> dict[str, Any]:
    """Return the tuning range of an option."""
    if isinstance(option.tunable, OneOf):
        return {"values": list(option.tunable.values)}
    assert isinstance(option.tunable, Range)
    return {"low": option.tunable.low, "high": option.tunable.high, "log": option.tunable.log}
