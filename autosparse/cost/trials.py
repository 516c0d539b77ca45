"""How many trials fit into `tuning.time`: chosen when a plan is priced, and kept until asked again."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from autosparse.cost.price import Price
from autosparse.spec import Spec, with_settings
from autosparse.store import Store, digest

_MOST = 500  # trials, where a spec does not say how many
_SEEN = 10  # of which the mean is what one takes: some may be finished, and then it is known


def limit_trials(spec: Spec, store: Store, price: Callable[[Spec], Price], *, refit: bool) -> Spec:
    """The spec with a number of trials in place of `tuning.time`, at least one; as it is where a trial has no price.

    What was chosen before is kept, however the price has moved, unless `refit`.
    """
    limit = spec.tuning.seconds
    if limit is None or not spec.learns or spec.tuning.trials == 0:
        return spec
    chosen = {} if refit else remembered_trials(spec, store)
    if not chosen and (each := _seconds(spec, price)) is not None:
        number = max(1, len(spec.tuning.selections), min(_most(spec), int(limit / max(each, 1e-6))))
        store.note(_memory(spec), number)
        chosen = _chosen(number)
    return with_settings(spec, chosen)


def _seconds(spec: Spec, price: Callable[[Spec], Price]) -> float | None:
    # What a trial takes; None where it has no price.
    steps = price(with_settings(spec, {"tuning.trials": min(_SEEN, _most(spec))})).steps
    trials = [estimate.seconds for name, estimate in steps.items() if name.startswith("trial/")]
    return statistics.fmean(trials) if trials else None


def remembered_trials(spec: Spec, store: Store) -> dict[str, Any]:
    """What was chosen for a spec's `tuning.time`, by path: a number of trials, and no limit; or nothing."""
    if spec.tuning.seconds is None or not spec.learns or spec.tuning.trials == 0:
        return {}
    kept = store.recall(_memory(spec))
    sound = isinstance(kept, int) and 0 < kept <= _most(spec)
    return _chosen(kept) if sound else {}


def _chosen(number: int) -> dict[str, Any]:
    return {"tuning.trials": number, "tuning.time": "unlimited"}


def _most(spec: Spec) -> int:
    return _MOST if spec.tuning.trials == "auto" else spec.tuning.trials


def _memory(spec: Spec) -> str:
    # All specs whose trials are the same make one choice. With a proxy a trial prunes by a method.
    written = spec.model_dump(mode="json")
    names = ["model", "dataset", "irp", "scorer", "tuning", "training"]
    if spec.tuning.proxy is not None:
        names += ["method", "compare"]
    return f"trials-{digest([written[name] for name in names])}"
