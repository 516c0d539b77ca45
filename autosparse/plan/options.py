"""How options of a spec are written in keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from autosparse.core.training.loop import Recipe, of_a_step
from autosparse.plan.model import Step
from autosparse.registry import OneOf, Option, Range, keyed, options_of
from autosparse.spec import Pretrained, Spec


def keyed_recipe(training: Any) -> dict[str, Any]:
    """A recipe's fields as steps are told them."""
    options = keyed(_recipe(), training.model_dump(mode="json"))
    if isinstance(epochs := options["epochs"], float) and epochs.is_integer():
        options["epochs"] = int(epochs)  # 2.0 epochs are 2
    return options


def keyed_aims(tuning: Any) -> dict[str, Any]:
    """What trials hold out, are scored and are proposed by, as they are told it: what they did before is left out."""
    before = {"split": "layers", "objective": "rank", "sampler": "tpe", "parallel": 1, "pruner": "none"}
    return {name: value for name, was in before.items() if (value := getattr(tuning, name)) != was}


def keyed_steps(training: Any) -> dict[str, Any]:
    """What of a recipe makes a step, where networks are trained for some steps and rewound."""
    return of_a_step(keyed_recipe(training))


def scorer_options(spec: Spec, steps: Mapping[str, Step]) -> Mapping[str, Any]:
    """The options of the scorer that a plan of these steps trains or takes."""
    if isinstance(spec.scorer, Pretrained):
        found: dict[str, Any] = steps["scorer"].options["scorer"]["options"] if "scorer" in steps else {}
        return found
    return spec.scorer.options()


def keyed_proxy(tuning: Any, method: Any, training: Any) -> dict[str, Any]:
    """What trials are told of a proxy's training by the recipe of IRP; nothing where its weight is 0."""
    proxy = tuning.proxy
    if proxy is None or not proxy.weight:
        return {}
    recipe = {name: value for name, value in keyed_recipe(training).items() if name != "epochs"}
    told = {"proxy": proxy.model_dump(mode="json"), "method": method.choices(), "training": recipe}
    chosen = {called(choice): choice.keyed() for choice in tuning.selections}
    return {**told, "selections": chosen} if chosen else told


def called(choice: Any) -> str:
    """A choice as a proposal names it: `sampled temperature 0.3`."""
    return " ".join([choice.name, *(f"{name} {value}" for name, value in choice.options().items())])


def tag_of(choice: Any) -> str:
    """A choice in the name of a step or a folder: `compact`, or `compact-float16`, by what is not as it is unasked."""
    unasked = {name: option.default for name, option in choice.entry.options.items()}
    return "-".join(
        [choice.name, *(_told(name, value) for name, value in choice.options().items() if value != unasked.get(name))]
    )


def _told(name: str, value: Any) -> str:
    return (name if value else f"no_{name}") if isinstance(value, bool) else str(value)


@cache
def _recipe() -> dict[str, Option]:
    return options_of(Recipe)


def tunable_limits(option: Option) -> dict[str, Any]:
    """Where tuning looks for a value of an option."""
    if isinstance(option.tunable, OneOf):
        return {"values": list(option.tunable.values)}
    assert isinstance(option.tunable, Range)
    return {"low": option.tunable.low, "high": option.tunable.high, "log": option.tunable.log}
