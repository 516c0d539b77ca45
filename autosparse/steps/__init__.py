"""The kinds of step: glue that loads inputs, calls the core and saves outputs.

An operation is a registered function `(work, **options)`; its options are JSON values, all of them keyed.
Raise its `version` when the same options and inputs give another output. What it `tells` while a plan runs is the
name of a number in its `result.json`, of which the highest is `best` or the last is shown. One that is done `by_team`
may be done by several processes at once, each with the same inputs and options; the first one's output counts.
"""

from collections.abc import Callable
from typing import TypeAlias

from autosparse.registry import Registry
from autosparse.steps.metrics import Metrics, metrics_of
from autosparse.steps.work import Work

Operation: TypeAlias = Callable[..., None]
operations: Registry[Operation] = Registry("operation", "operations")

from autosparse.steps import (  # noqa: E402
    data,
    emit,
    evaluate,
    init,
    irp,
    label,
    mask,
    pretrained,
    rewind,
    sanity,
    scorer,
    shuffle,
    train,
    tune,
)

__all__ = [
    "Metrics", "Operation", "Work", "data", "emit", "evaluate", "init", "irp", "label", "mask", "metrics_of",
    "operations", "pretrained", "rewind", "sanity", "scorer", "shuffle", "train", "tune",
]  # fmt: skip
