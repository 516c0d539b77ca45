"""What a method must beat to have learned more than quotas: the controls of a spec that say something of its method."""

from __future__ import annotations

from collections.abc import Iterator

from autosparse.core.sanity import is_shuffled_by_selection, left_out
from autosparse.spec import Method, Spec


def controls_of(spec: Spec) -> Iterator[tuple[str, Method | None]]:
    """Name and method of each control; no method where it is the finished masks, permuted within layers.

    A method that allocates once has the same quotas with a random selection. One of several rounds, with a repair or
    with quotas that move has others then. Layer means are a control of methods that score once.
    """
    method, choices = spec.method, spec.method.choices()
    once = is_shuffled_by_selection(choices)
    for name in spec.controls:
        if name == "shuffle" and not left_out("shuffle", choices):
            yield f"{method.name}.{name}", method.control(name) if once else None
        elif name != "shuffle" and once and not method.criterion.entry.facts.get("shuffled"):
            yield f"{method.name}.{name}", method.control(name)
