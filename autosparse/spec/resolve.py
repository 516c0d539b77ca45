"""Resolved specs: `auto` and defaults become explicit choices for one machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from autosparse.backends import Machine
from autosparse.core.scorers import scorers
from autosparse.core.training.under_masks import UNDER_MASKS, at_defaults
from autosparse.spec.choices import Choice, SelectionChoice
from autosparse.spec.document import Document, Path, leaves
from autosparse.spec.learning import Pretrained
from autosparse.spec.method import HORIZON, USUAL, Method, in_percent, searched, written_out
from autosparse.spec.sanity import BEST
from autosparse.spec.schema import Spec

ROUNDS, TRIALS = 16, 20
"""The defaults of `irp.rounds` and `tuning.trials`."""

_AUTO = {
    "irp.epochs", "irp.rounds", "irp.training.precision", "sanity.methods", "target.device", "target.threads",
    "training.precision", "tuning.objective", "tuning.options", "tuning.trials",
}  # fmt: skip
_AS_THE_SPECS = ("model", "dataset", "training")


def resolve(spec: Spec, machine: Machine) -> Spec:
    """Replace `auto` and defaults from other sections by explicit values, which determine the cache keys."""
    target, irp, tuning, sanity = spec.target, spec.irp, spec.tuning, spec.sanity
    device = _given(target.device, machine.devices[0])
    threads = max(1, min(machine.threads, machine.cores // _given(target.workers, 1)))
    precision = "bfloat16" if machine.bfloat16(device) else "float32"
    recipe: Any = irp.training or spec.training
    epochs = _given(irp.epochs, recipe.epochs)
    tuned = _tuned(spec)
    facts: Mapping[str, Any] = {} if isinstance(spec.scorer, Pretrained) else spec.scorer.entry.facts
    irp_now = {
        "rounds": _given(irp.rounds, _rounds(spec)),
        "epochs": epochs,
        "model": irp.model or (None if irp.models else spec.model),
        "dataset": irp.dataset or spec.dataset,
        "training": _with_precision(recipe, precision).model_copy(update={"epochs": epochs, **at_defaults()}),
    }
    tuning_now = {
        "options": tuned,
        "trials": _given(tuning.trials, TRIALS) if tuned or tuning.selections else 0,
        "objective": _given(tuning.objective, facts.get("objective", "rank")),
    }
    if sanity is not None:
        checked = (spec.method.name, *((BEST,) if spec.baselines else ()))
        sanity = sanity.model_copy(update={"methods": _given(sanity.methods, checked)})
    return _with_methods(spec, written_out).model_copy(
        update={
            "sanity": sanity,
            "target": target.model_copy(update={"device": device, "threads": _given(target.threads, threads)}),
            "training": _with_precision(spec.training, precision),
            "irp": irp.model_copy(update=irp_now),
            "tuning": tuning.model_copy(update=tuning_now),
        }
    )


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value == "auto" else value


def open_settings(spec: Spec) -> dict[str, float]:
    """Return the settings that a spec leaves open, which `target.time` may lower: path -> default value."""
    settings: dict[str, float] = {HORIZON: USUAL} if spec.method.horizon == "auto" else {}
    if not spec.learns:
        return settings
    recipe: Any = spec.irp.training
    if spec.irp.epochs == "auto" and (recipe is None or "epochs" not in recipe.model_fields_set):
        settings["irp.epochs"] = (recipe or spec.training).epochs
    if spec.tuning.trials == "auto" and (_tuned(spec) or spec.tuning.selections):
        settings["tuning.trials"] = TRIALS
    if spec.irp.rounds == "auto":
        settings["irp.rounds"] = _rounds(spec)
    return settings


def with_settings(spec: Spec, settings: Mapping[str, Any]) -> Spec:
    """Return the spec with the open settings at these values, by path."""
    sections: dict[str, dict[str, Any]] = {"irp": {}, "tuning": {}, "method": {}}
    for path, value in settings.items():
        section, _, name = path.partition(".")
        sections[section][name] = in_percent(value) if path == HORIZON else value
    return spec.model_copy(
        update={name: getattr(spec, name).model_copy(update=values) for name, values in sections.items()}
    )


def provenance(resolved: dict[str, Any], document: Document) -> dict[str, str]:
    """Map the dotted path of every value in a resolved spec to its origin: a mark, `auto`, `as ...` or `default`."""
    paths = [path for path, value in leaves(resolved) if value != {}]
    return {".".join(map(str, path)): _origin(path, document) for path in paths}


def _origin(path: Path, document: Document) -> str:
    path = document.written(path)
    whole = path[:2] == ("irp", "training") and not _is_written(path[:2], document)  # the spec's
    dotted, value = ".".join(map(str, path)), document.at(path)
    if (dotted in _AUTO and not whole and value in ("auto", None)) or (dotted == HORIZON and value == "auto"):
        return "auto"
    written = max((n for n in range(1, len(path) + 1) if _is_written(path[:n], document)), default=0)
    # A preset or a choice by name sets all its values; a mapping only the values written in it.
    if written == len(path) or (written and not isinstance(document.at(path[:written]), dict)):
        return str(document.values[path[:written]])
    inherited = path[:1] == ("irp",) and path[1] in _AS_THE_SPECS and written < 2
    return f"as `{path[1]}`" if inherited and not (whole and path[2] in UNDER_MASKS) else "default"


def _is_written(path: Path, document: Document) -> bool:
    # In `irp`, null means the value of the spec, as an absent key does.
    null = path[:1] == ("irp",) and path[1:] and path[1] in _AS_THE_SPECS and document.at(path[:2]) is None
    return path in document.values and not null


def _tuned(spec: Spec) -> tuple[str, ...]:
    if spec.tuning.options != "auto":
        return spec.tuning.options
    if isinstance(spec.scorer, Pretrained):
        return ()
    options, written = spec.scorer.entry.options, spec.scorer.model_fields_set
    return tuple(name for name, option in options.items() if option.is_tuned_unasked and name not in written)


def _rounds(spec: Spec) -> int:
    rounds, share = max(ROUNDS, spec.fewest_rounds), spec.irp.per_round
    # Rounds that each prune a share of all weights must leave some.
    return math.ceil(min(rounds + 1, 1 / share)) - 1 if spec.irp.per_round_of == "all" else rounds


def _with_precision(training: Any, precision: str) -> Any:
    return training.model_copy(update={"precision": _given(training.precision, precision)})


def _with_methods(spec: Spec, change: Callable[[Method], Method]) -> Spec:
    compare = tuple(item if isinstance(item, str) else change(item) for item in spec.compare)
    return spec.model_copy(update={"method": change(spec.method), "compare": compare})


def with_selections(spec: Spec, pretrained: Mapping[str, Any] | None) -> Spec:
    """Replace each `tuned` by the selection of the spec's scorer or of `pretrained`, unless trials choose it."""
    if isinstance(spec.scorer, Choice):
        tried = spec.tuning.selections and spec.tuning.trials
        chosen = None if tried else selection_of({"name": spec.scorer.name})
    else:
        chosen = selection_of(pretrained) if pretrained else None
    return _with_methods(spec, lambda method: filled(method, chosen))


def selection_of(scorer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scorer's selection, in a spec's form: the one it was tuned with, or the default of its kind."""
    if tuned := scorer.get("selection"):
        return {"name": tuned["name"], **tuned.get("options", {})}
    return {"name": scorers[scorer["name"]].facts.get("selection", "top")}


def filled(method: Method, chosen: Mapping[str, Any] | None) -> Method:
    """Replace the selection `tuned`; a mask search, or a pattern that it cannot fill, takes `top`."""
    if not method.selection.entry.facts.get("tuned") or (chosen is None and not method.searches):
        return method
    selection = _SELECTION.validate_python({"name": "top"} if method.searches else chosen)
    if method.given_sparsity is not None and "ranks" not in selection.entry.facts:
        selection = _SELECTION.validate_python({"name": "top"})
    return method.model_copy(update={"selection": selection})


_SELECTION: TypeAdapter[Any] = TypeAdapter(SelectionChoice)


def with_horizon(spec: Spec, steps: int) -> Spec:
    """Return the spec with a search for every method with a horizon; `steps` are those of one training."""
    if all(method.horizon is None for method in spec.methods):
        return spec
    return _with_methods(spec, lambda method: searched(method, steps))
