"""The kinds of step: glue that loads inputs, calls the core and writes a result.

An operation is a registered function `(context, **options)`; its options are JSON values, all of them keyed.
Raise its `version` when the same options and inputs give another output. Facts of a registration:

* `spec_paths`: option -> path of the spec that it comes from, where that is not its name; `role.*` -> the path that
  sets the number of inputs of a role; an empty path for an option that the inputs imply.
* `result`: the class that reads an artifact of the operation; `read`, the function that does, if not the class's.
* `cost`: the function `(options, facts) -> Workload` that counts the work of a step before it runs.
* `metric`: the number in `result.json` that a running plan shows, of which the highest is `best` or the last counts.
* `by_team`: several processes may do it together, each with the same inputs and options; the first one's output counts.
* `chained`: the plural of steps of which each continues the one before, such as `rounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Self, TypeAlias, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from autosparse.backends import Placement
from autosparse.borders import in_short, is_of_machine
from autosparse.core.training.loop import Checkpoint, Team
from autosparse.core.weights import Tensors
from autosparse.errors import DamagedArtifact, MissingRequirement
from autosparse.lazy_torch import torch
from autosparse.registry import Option, Registry
from autosparse.store import Artifact, Draft, canonical

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
    checkpoint: Checkpoint | None = None
    """the state of an interrupted training, for a step that trains once"""
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


Count = Annotated[int, Ge(0), Lt(2**63)]
Positive = Annotated[int, Gt(0), Lt(2**63)]
_LARGEST = 1e100
Real = Annotated[float, Ge(-_LARGEST), Le(_LARGEST)]
"""A finite number; sums and squares of many are finite too."""
_ROUNDING = 1e-6  # of means
Percent = Annotated[float, Ge(-_ROUNDING), Le(100 + _ROUNDING)]
Share = Annotated[float, Ge(-_ROUNDING), Le(1 + _ROUNDING)]

Value = TypeVar("Value")


@contextmanager
def reading(artifact: Artifact, file: str) -> Iterator[None]:
    """Raise DamagedArtifact for any exception in a block that interprets a file of an artifact."""
    try:
        yield
    except (DamagedArtifact, MissingRequirement, OSError):
        raise
    except ValidationError as error:
        problem = error.errors()[0]
        path, text = ".".join(map(str, problem["loc"])), problem["msg"]
        raise artifact.malformed(f"{file}: {f'`{path}`: ' if path else ''}{text}") from None
    except Exception as error:  # the content is from anywhere, and may have any form
        if is_of_machine(error):
            raise
        raise artifact.malformed(f"{file}: {in_short(error)}") from error


class Content(cached_property[Value]):
    """Cached property of a result that reads and checks `<name>.safetensors`. Raises DamagedArtifact."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        with reading(instance.artifact, f"{self.attrname}.safetensors"):
            return super().__get__(instance, owner)


class StepResult:
    """Base of the frozen dataclasses that steps write as artifacts, one for each kind of step.

    The fields are those of the JSON file named `FILE`, if any; one that equals its default is left out. Each property
    of kind `Content` reads the file of tensors of its name when first used: most readers need the numbers alone.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
    FILE: ClassVar[str] = "result"
    artifact: Artifact

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """Read a result. Raises DamagedArtifact for a content that the step does not write."""
        kind: Any = cls
        file = f"{cls.FILE}.json" if cls.FILE else ""
        data = artifact.read(file) if file else b"{}"
        with reading(artifact, file):
            result: Self = _adapter(kind).validate_json(data, strict=True)
            if not all(abs(number) <= _LARGEST for number in numbers_in(result.json())):  # also in options of any form
                raise ValueError("a number is not finite, or too large")
            vars(result)["artifact"] = artifact
            written = result.files()
            for name in sorted({*artifact.files} ^ written):
                result.require(False, f"it {'has no' if name in written else 'has an odd file,'} {name}")
            result.check()
        return result

    @property
    def asked(self) -> Mapping[str, Any]:
        """Options of the step that wrote the result, as its key has them."""
        options: Mapping[str, Any] = self.artifact.descriptor.get("options") or {}
        return options

    @classmethod
    def contents(cls) -> list[str]:
        """Return the names of the properties that read files of tensors."""
        parts = {name: part for base in reversed(cls.__mro__) for name, part in vars(base).items()}
        return [name for name, part in parts.items() if isinstance(part, Content)]

    def files(self) -> set[str]:
        """Return the names of the files that the step writes."""
        return {*([f"{self.FILE}.json"] if self.FILE else []), *(f"{name}.safetensors" for name in self.contents())}

    def check(self) -> None:
        """Compare fields with each other and with the step's options. Raises DamagedArtifact."""

    def check_contents(self) -> None:
        """Read and check every file. Raises DamagedArtifact."""
        for name in self.contents():
            getattr(self, name)

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
    """Base of results with named tensors in `state.safetensors`, at least one, and all finite."""

    @Content
    def state(self) -> Tensors:
        """Every parameter and buffer of a network, or a scorer's learned tensors."""
        state = finite(self, "state")
        self.require(bool(state), "state.safetensors: no tensors")
        return state


def finite(result: StepResult, file: str) -> Tensors:
    """Return the tensors of a file of a result. Raises DamagedArtifact for values that are not finite."""
    tensors = result.artifact.tensors(file)
    for name, tensor in tensors.items():
        is_finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        result.require(is_finite, f"{file}.safetensors: `{name}` is not finite")
    return tensors


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


def numbers_in(value: Any) -> Iterator[float]:
    """Yield all numbers of a JSON value."""
    if isinstance(value, int | float):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from numbers_in(part)


def _check_choice(value: dict[str, Any]) -> dict[str, Any]:
    version = value.get("version", 0)
    is_choice = isinstance(value.get("name"), str) and isinstance(value.get("options"), dict)
    if not is_choice or type(version) is not int or not 0 <= version < 2**63:
        raise ValueError("a keyed choice has a `name`, `options` and a `version`")
    return value


def check_options(values: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    """Raise ValueError unless these are values of registered options, each of its type and within its limits."""
    for name, value in values.items():
        if name not in options:
            raise ValueError(f"there is no option `{name}`")
        TypeAdapter(options[name].annotation).validate_json(canonical(value), strict=True)


KeyedChoice: TypeAlias = Annotated[dict[str, Any], AfterValidator(_check_choice)]
"""A registered function by name, with its options and version."""


class MaskedResult(StepResult):
    """Base of results with boolean masks in `masks.safetensors`, in the shapes of the weights."""

    total: int

    @property
    def kept_by_layer(self) -> Mapping[str, int]:
        """Weights that the masks of each layer keep."""
        raise NotImplementedError

    @Content
    def masks(self) -> Tensors:
        """Masks, which keep as many of the weights as the numbers of the result say."""
        masks, kept = self.artifact.tensors("masks"), self.kept_by_layer
        for name in dict.fromkeys([*kept, *masks]):
            has = name in kept and name in masks and masks[name].dtype == torch.bool
            count = int(masks[name].count_nonzero()) if has else None
            self.require(
                count == kept.get(name), f"masks.safetensors: `{name}` is not the mask that result.json describes"
            )
        weights = sum(mask.numel() for mask in masks.values())
        self.require(weights == self.total, f"masks.safetensors: not {self.total} weights")
        return masks


def result_of(artifact: Artifact) -> StepResult:
    """Return the result that an artifact holds. Raises DamagedArtifact for one that its step does not write."""
    entry = operations.find(str(artifact.descriptor.get("operation")))
    if entry is None:
        raise artifact.malformed("artifact.json: no step of this autosparse writes it")
    read: Callable[[Artifact], StepResult] = entry.facts.get("read", entry.facts["result"].read)
    return read(artifact)


def check(artifact: Artifact) -> None:
    """Read an artifact whole. Raises DamagedArtifact unless its bytes are published ones that its step may write.

    An artifact of another version of its step, or of a step of another release, is compared with its digests alone.
    """
    artifact.verify()
    entry = operations.find(str(artifact.descriptor.get("operation")))
    if entry is not None and artifact.descriptor.get("version", entry.version) == entry.version:
        result_of(artifact).check_contents()


Metrics: TypeAlias = Mapping[str, float | Sequence[float]]
"""name -> a number, or one for every epoch"""


def metrics_of(artifact: Artifact) -> dict[str, float | list[float]]:
    """Return the numbers in an artifact's `result.json`; none without that file. Raises DamagedArtifact."""
    if "result.json" not in artifact.files:
        return {}
    return {
        name: value
        for name, value in result_of(artifact).json().items()
        if _is_number(value) or (isinstance(value, list) and value and all(map(_is_number, value)))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
