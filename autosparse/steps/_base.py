"""The kinds of step: glue that loads inputs, calls the core and writes a result.

An operation is a registered function `(context, **options)`; its options are JSON values, all of them keyed.
Raise its `version` when the same options and inputs give another output. Facts of a registration:

* `spec_paths`: option -> path of the spec that it comes from, where that is not its name; `role.*` -> the path that
  sets the number of inputs of a role; an empty path for an option that the inputs imply.
* `result`: the class that reads an artifact of the operation.
* `cost`: the function `(options, facts) -> Workload` that counts the work of a step before it runs.
* `metric`: the number in `result.json` that a running plan shows, of which the highest is `best` or the last counts.
* `by_team`: several processes may do it together, each with the same inputs and options; the first one's output counts.
* `chained`: the plural of steps of which each continues the one before, such as `rounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, TypeAdapter, ValidationError

from autosparse.backends import Placement
from autosparse.core.training.loop import Team
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import Registry
from autosparse.store import Artifact, Draft

Operation: TypeAlias = Callable[..., None]
operations: Registry[Operation] = Registry("operation", "operations")


@dataclass(frozen=True)
class Context:
    """A step's inputs (role -> artifact), its output, its placement, and access outside its key (paths, downloads)."""

    inputs: Mapping[str, Artifact]
    output: Draft
    placement: Placement
    access: Mapping[str, Any]
    observe: Callable[..., None] = lambda *_: None
    """called with the work done, the total work, and the loss so far, if any"""
    team: Team | None = None
    """the processes that run this step together, if several"""
    notes: list[str] = field(default_factory=list)
    """sentences about deviations from the request"""

    @property
    def device(self) -> torch.device:
        return torch.device(self.placement.device)

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)

    def roles(self, kind: str) -> dict[str, Artifact]:
        """Return the inputs of one kind, by the rest of their role after `kind.`, in the plan's order."""
        return {role.partition(".")[2]: item for role, item in self.inputs.items() if role.partition(".")[0] == kind}


class StepResult:
    """Base of the frozen dataclasses that steps write as artifacts, one for each kind of step.

    The fields are those of the JSON file named `FILE`, if any; one that equals its default is left out. Tensors are
    cached properties that read a file of safetensors when first used: most readers need the numbers alone.
    """

    FILE: ClassVar[str] = "result"
    artifact: Artifact

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """Read a result. Raises DamagedArtifact for a content that the step does not write."""
        kind: Any = cls
        try:
            data = artifact.read(f"{cls.FILE}.json") if cls.FILE else b"{}"
            result: Self = _adapter(kind).validate_json(data, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            path, text = ".".join(map(str, problem["loc"])), problem["msg"]
            raise artifact.malformed(f"{cls.FILE}.json: {f'`{path}`: ' if path else ''}{text}") from None
        vars(result)["artifact"] = artifact
        result.check()
        return result

    def check(self) -> None:
        """Compare fields with each other. Raises DamagedArtifact."""

    def require(self, condition: bool, problem: str) -> None:
        """Raise DamagedArtifact with `problem` unless the condition holds."""
        if not condition:
            raise self.artifact.malformed(problem)

    def json(self) -> dict[str, Any]:
        """Return the value of the JSON file, names in order."""
        value: dict[str, Any] = _json(self)
        return value

    def write(self, draft: Draft, **tensors: Tensors) -> None:
        """Write the JSON file, and each of the tensors' files by its name."""
        for file, named in tensors.items():
            draft.write_tensors(file, named)
        if self.FILE:
            draft.write_json(self.FILE, self.json())


class StateResult(StepResult):
    """Base of results with named tensors in `state.safetensors`."""

    @cached_property
    def state(self) -> Tensors:
        """Every parameter and buffer of a network, or a scorer's learned tensors."""
        return self.artifact.tensors("state")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _json(value: Any) -> Any:
    if is_dataclass(value):
        named = {one.name: getattr(value, one.name) for one in fields(value) if not _is_default(value, one)}
        return {name: _json(named[name]) for name in sorted(named)}
    if isinstance(value, Mapping):
        return {name: _json(part) for name, part in value.items()}
    return [_json(part) for part in value] if isinstance(value, list | tuple) else value


def _is_default(value: Any, one: Any) -> bool:
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return default is not MISSING and bool(getattr(value, one.name) == default)


def _check_choice(value: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("name"), str) or not isinstance(value.get("options"), dict):
        raise ValueError("a keyed choice has a `name` and `options`")
    return value


KeyedChoice: TypeAlias = Annotated[dict[str, Any], AfterValidator(_check_choice)]
"""A registered function by name, with its options and version."""


def read_masks(result: StepResult, kept: Mapping[str, int], total: int) -> Tensors:
    """Return the masks of a result, which keep `kept` of `total` weights. Raises DamagedArtifact for any others."""
    masks = result.artifact.tensors("masks")
    for name in dict.fromkeys([*kept, *masks]):
        has = name in kept and name in masks and masks[name].dtype == torch.bool
        count = int(masks[name].count_nonzero()) if has else None
        result.require(
            count == kept.get(name), f"masks.safetensors: `{name}` is not the mask that result.json describes"
        )
    result.require(sum(mask.numel() for mask in masks.values()) == total, f"masks.safetensors: not {total} weights")
    return masks


Metrics: TypeAlias = Mapping[str, float | Sequence[float]]
"""name -> a number, or one for every epoch"""


def metrics_of(artifact: Artifact) -> dict[str, float | list[float]]:
    """Return the numbers in an artifact's `result.json`; none without that file. Raises DamagedArtifact."""
    if "result.json" not in artifact.files:
        return {}
    result = artifact.json("result")
    if not isinstance(result, dict):
        raise artifact.malformed("result.json: not a mapping")
    return {
        name: value
        for name, value in result.items()
        if _is_number(value) or (isinstance(value, list) and value and all(map(_is_number, value)))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
