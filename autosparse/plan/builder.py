"""The steps of a plan as they are added: one for each key, every dataset looked at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autosparse.datasets import Source, open_source
from autosparse.errors import UsageError
from autosparse.plan.model import Step, step_key
from autosparse.spec.choices import Choice
from autosparse.steps import operations
from autosparse.store import digest


class Builder:
    """What is being compiled: steps by name, and what their datasets tell of themselves."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.sources: dict[str, Source] = {}
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
    ) -> str:
        """Add a step and give its name: the earlier one's, where one of the same key is there."""
        version = operations[operation].version
        key = step_key(operation, version, options, {role: self.steps[step].key for role, step in inputs.items()})
        if key not in self._named:
            assert name not in self.steps, f"two different steps are named {name}"
            self._named[key] = name
            # Whatever builds the network again must reach its code, as `init` does.
            start = self.steps[inputs["init"]].access if "init" in inputs else {}
            reach = {**start, **(access or {})}
            self.steps[name] = Step(name, operation, version, options, dict(inputs), key, purpose, reach)
        return self._named[key]

    def open(self, dataset: Choice) -> Source:
        """What a dataset tells of itself; looked at once, however many networks take it."""
        asked = digest([dataset.name, dataset.options()])
        if asked not in self._opened:
            self._opened[asked] = open_source(dataset.name, dataset.options())
        return self._opened[asked]


@contextmanager
def at_path(*path: str | int) -> Iterator[None]:
    """What is found wrong inside is the fault of the value of the spec at this path."""
    try:
        yield
    except UsageError as error:
        error.at = path
        raise
