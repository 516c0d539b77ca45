"""The section `method`: pruning choices and the horizon, the number of training steps spent on the masks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError

from autosparse.core.presets import CHANNEL_DEFAULT, CONTROLS, OF_TICKETS, PRESETS, SMALLER
from autosparse.core.schedule import keeps_weights, schedules, training_steps
from autosparse.core.selection import selections
from autosparse.core.units import n_of_m
from autosparse.spec.choices import (
    AllocationChoice,
    CriterionChoice,
    RepairChoice,
    ScheduleChoice,
    SelectionChoice,
    UnitChoice,
    UpdatesChoice,
    about,
)
from autosparse.spec.diagnostics import refusal
from autosparse.spec.method_name import DENSE, changed_preset, default_name, method_name, preset_of
from autosparse.spec.section import Rule, Section
from autosparse.text import quoted

HORIZON = "method.horizon"
"""The path of the horizon in a spec."""

USUAL = 50
"""The value of `auto` in percent of one training of the network, unless a time limit lowers it."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SHARE = re.compile(rf"({_NUMBER}) ?%")
_MOST = 1000  # percent
_MOST_STEPS = 10_000_000


def _horizon(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        meant = ""
        if isinstance(value, float) and (0 < value < 10 or value.is_integer()):
            meant = f"{100 * value:g}%" if 0 < value < 10 else f"{value:.0f}"
        message = f"must be whole steps, a share of one training such as 10%, or auto, but is {quoted(value)}"
        raise refusal(message, f"did you mean `{meant}`?" if meant else "such as 300, 10% or auto")
    if float(match[1]) > _MOST:
        raise refusal(f"must be at most {_MOST}% of one training but is {value.strip()}")
    return in_percent(float(match[1]))


Horizon = Annotated[
    Annotated[int, Ge(0), Le(_MOST_STEPS)] | Annotated[str, Field(pattern=rf"^{_NUMBER}%$")] | Literal["auto"],
    BeforeValidator(_horizon),
]
"""Steps, a share of one training of the network such as `10%`, or `auto`."""


def searched(method: Method, steps: int) -> Method:
    """Replace the schedule by a search with as many steps as the horizon; without one return the method unchanged.

    An existing search keeps its other options.
    """
    if method.horizon is None:
        return method
    length, schedule, search = _steps(method.horizon, steps), method.schedule, {"name": _SEARCH}
    if schedule.entry.facts.get("learns"):
        search = schedule.model_dump()
    kept = method.model_dump(exclude={"horizon", "schedule"})
    return type(method).model_validate({**kept, "schedule": {**search, "steps": length} if length else "one_shot"})


def in_percent(value: float) -> str:
    """Format a share of one training: 50 is `50%`."""
    return f"{value:g}%"


def written_out(method: Method) -> Method:
    """Return the method with `auto` replaced by its share of a training."""
    return method.model_copy(update={"horizon": in_percent(USUAL)}) if method.horizon == "auto" else method


def _steps(horizon: int | str, steps: int) -> int:
    if not isinstance(horizon, str):
        return horizon
    share = float(horizon.rstrip("%")) / 100
    return max(1, round(share * steps)) if share else 0


_SEARCH = next(entry.name for entry in schedules if entry.facts.get("learns"))


_SINGLE = "weight"
_WITHOUT_QUOTAS = ("global", "uniform")  # the default, and the one that comes nearest to equal shares


class Method(Section):
    """A pruning method: six independent choices and a repair, or a preset, whole or with some choices replaced.

    With a `horizon` above 0 the schedule is a search of that many steps, from the criterion's scores and quotas on.
    """

    name: Annotated[str, AfterValidator(method_name), about("name in reports; default: derived from its options")]
    criterion: Annotated[CriterionChoice, about("scoring criterion of single weights")]
    allocation: Annotated[AllocationChoice, about("layer quotas: number of weights that each layer keeps")] = Field(
        default="global", validate_default=True
    )
    selection: Annotated[SelectionChoice, about("selection of weights within a layer")] = Field(
        default="top", validate_default=True
    )
    schedule: Annotated[ScheduleChoice, about("pruning schedule, with its number of rounds")] = Field(
        default="one_shot", validate_default=True
    )
    repair: Annotated[RepairChoice, about("repair of disconnected networks")] = Field(
        default="none", validate_default=True
    )
    unit: Annotated[
        UnitChoice,
        about("part that is pruned as a whole: a weight, a channel, or a weight in a pattern such as 2:4"),
    ] = Field(default="weight", validate_default=True)
    updates: Annotated[
        UpdatesChoice, about("rule that changes the masks during training; none prunes at initialization")
    ] = Field(default="none", validate_default=True)
    horizon: Annotated[
        Horizon | None,
        about(
            "mask-training budget, rewound afterwards: a number of training steps such as 300, a fraction of one "
            f"training such as 10%, or auto, which is {USUAL}% (for `method` also limited by `target.time`); 0 prunes "
            "without training"
        ),
    ] = None

    @classmethod
    def expanded(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, **preset_of(value)}
        if isinstance(value, Mapping) and not {"preset", "criterion"} & value.keys():
            value = _filled(value)
        if isinstance(value, Mapping) and "preset" in value:
            value = changed_preset(value)
        if isinstance(value, Mapping) and "name" not in value:
            return {"name": default_name(value), **value}
        if not isinstance(value, Mapping | Method):
            message = f"must be the name of a method, or a mapping with `criterion`, but is {quoted(value)}"
            raise refusal(message, "run `autosparse list presets`")
        return value

    @classmethod
    def without_short_form(cls, value: Any) -> Mapping[str, Any] | None:
        if isinstance(value, Mapping) and "preset" in value:
            return {key: inner for key, inner in value.items() if key != "preset"}
        return None

    @classmethod
    def keys(cls) -> list[str]:
        return [*super().keys(), "preset"]

    @classmethod
    def unread(cls, meant: set[str]) -> set[str]:
        return meant | ({"criterion"} if meant & {"preset", "horizon", "unit"} else set())

    def rules(self) -> tuple[Rule, ...]:
        return (self._named, self._scored, self._searchable, self._united, self._patterned, self._updated)

    def _named(self) -> Iterator[PydanticCustomError]:
        # A preset under another name: validation under its real name would recurse.
        preset = PRESETS.get(self.name)
        other = preset and (self.horizon is not None or not self._is_preset(preset[1]))
        if self.name == DENSE or other:
            yield refusal(f"cannot be named {self.name!r}: that is another method")

    def _scored(self) -> Iterator[PydanticCustomError]:
        if self.selection.entry.facts.get("tuned") and not self.needs_scorer:
            message = f"is the selection of a scorer, but criterion `{self.criterion.name}` has none"
            yield refusal(message, "such as `selection: top`", ("selection",))

    def _searchable(self) -> Iterator[PydanticCustomError]:
        if self.horizon is not None and "rounds" in self.schedule.entry.options:
            message = f"cannot be given to a method that prunes in rounds, by schedule `{self.schedule.name}`"
            yield refusal(message, "with `schedule: one_shot` it can be", ("horizon",))
        options = self.schedule.options()
        if options.get("rewind") is False and not options.get("train_weights", True):
            message = "is false, but `train_weights: false` leaves no trained weights to keep"
            yield refusal(message, "remove one of them", ("schedule", "rewind"))
        yield from self._shareable(options)

    def _shareable(self, options: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        if not options.get("shared"):
            return
        chosen = {"plain", "blind"} & self.selection.entry.facts.keys()
        for reason, applies in {
            "`rewind: false` keeps the weights of one budget": options.get("rewind") is False,
            f"unit `{self.unit.name}` is not a single weight": self.has_unit,
            f"selection `{self.selection.name}` does not keep the highest scores": not chosen,
        }.items():
            if applies:
                yield refusal(f"is true, but {reason}", "remove one of them", ("schedule", "shared"))

    def _united(self) -> Iterator[PydanticCustomError]:
        if not self.prunes_channels:
            return
        if self.repair.name != "none":
            message = f"`{self.repair.name}` restores single weights, but unit `{self.unit.name}` never disconnects"
            yield refusal(message, "remove `repair`", ("repair",))
        if self.selection.entry.facts.get("flows_per_layer"):
            message = f"`{self.selection.name}` fills layers weight by weight, but the unit is `{self.unit.name}`"
            yield refusal(message, "such as `selection: top`", ("selection",))

    def _patterned(self) -> Iterator[PydanticCustomError]:
        if (given := self.given_sparsity) is None:
            return
        if given <= 0:
            message = f"must be below `m` but is {self.unit.options()['n']} of {self.unit.options()['m']}"
            yield refusal(message, "such as 2 of 4", ("unit", "n"))
        if self.allocation.name not in _WITHOUT_QUOTAS:
            quotas = f"has the quotas of `{self.allocation.name}`"
            message = f"{quotas}, but unit `{self.pattern}` gives every layer its number of weights"
            yield refusal(message, "write `allocation: uniform`", ("allocation",))
        facts = self.selection.entry.facts
        if not ("ranks" in facts or facts.get("tuned")):
            message = f"`{self.selection.name}` chooses in whole layers, but unit `{self.pattern}` in blocks"
            ranking = " or ".join(f"`{entry.name}`" for entry in selections if "ranks" in entry.facts)
            yield refusal(message, f"such as {ranking}", ("selection",))
        if self.repair.name != "none":
            message = f"`{self.repair.name}` moves single weights, which breaks the blocks of unit `{self.pattern}`"
            yield refusal(message, "remove `repair`", ("repair",))

    def _updated(self) -> Iterator[PydanticCustomError]:
        if not self.updates_masks:
            return
        rule = self.updates.name
        if self.has_unit:
            message = f"`{rule}` changes single weights, but the unit is `{self.unit.name}`"
            yield refusal(message, "remove `unit` or `updates`", ("updates",))
        options = self.updates.options()
        if options.get("begin", 0.0) > options.get("end", 1.0):
            message = f"is {options['begin']:g}, after `end` {options['end']:g}"
            yield refusal(message, "both are shares of the training", ("updates", "begin"))
        if not self.starts_dense:
            return
        facts = self.criterion.entry.facts
        if self.needs or facts.get("gradients") or facts.get("hessian_products"):
            message = (
                f"`{rule}` scores trained weights without images, but criterion `{self.criterion.name}` needs more"
            )
            yield refusal(message, "such as `criterion: magnitude`", ("criterion",))
        if self.searches or self.schedule.name != "one_shot":
            given = "horizon" if self.horizon is not None else "schedule"
            message = f"makes masks before training, but `updates: {rule}` starts dense"
            yield refusal(message, f"remove `{given}`", (given,))
        if self.repair.name != "none":
            message = f"`{self.repair.name}` repairs masks before training, but `updates: {rule}` starts dense"
            yield refusal(message, "remove `repair`", ("repair",))

    def _is_preset(self, parts: Mapping[str, Any]) -> bool:
        preset = Method.model_validate({"name": "preset", **parts})
        if preset.selection.entry.facts.get("tuned"):  # any selection, as it comes from the scorer
            preset = preset.model_copy(update={"selection": self.selection})
        return preset.choices() == self.choices()

    def choices(self) -> dict[str, Any]:
        """Return the keyed choices, which identify the method whatever its name. They omit `none` and `weight`."""
        repair = ("repair",) if self.repair.name != "none" else ()
        unit = ("unit",) if self.has_unit else ()
        updates = ("updates",) if self.updates_masks else ()
        parts = ("criterion", "allocation", "selection", "schedule", *repair, *unit, *updates)
        return {part: getattr(self, part).keyed() for part in parts}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        mapping = handler(core)
        inner = handler.resolve_ref_schema(mapping)
        about_it = "a published method; other keys replace parts of it"
        inner["properties"]["preset"] = {"enum": [*PRESETS], "type": "string", "description": about_it}
        inner.pop("required", None)
        inner["anyOf"] = [{"required": [name]} for name in ("criterion", "preset", "horizon", "unit")]
        return {"anyOf": [{"enum": [*PRESETS], "type": "string"}, mapping]}

    @property
    def needs_scorer(self) -> bool:
        return bool(self.criterion.entry.facts.get("needs_scorer"))

    @property
    def needs_order(self) -> bool:
        """True for a criterion that needs the order of a ticket or of another search."""
        return bool(self.criterion.entry.facts.get("needs_order"))

    @property
    def needs_rounds(self) -> bool:
        """True for a criterion that needs IRP on the network to prune."""
        return bool(self.criterion.entry.facts.get("needs_rounds"))

    @property
    def searches(self) -> bool:
        """True for masks learned together with the weights of the network to prune."""
        return self.horizon not in (None, 0, "0%") or bool(self.schedule.entry.facts.get("learns"))

    @property
    def shares_search(self) -> bool:
        """True for a method with one search for all budgets."""
        return bool(self.schedule.options().get("shared")) and training_steps(self.choices()) > 0

    @property
    def keeps_weights(self) -> bool:
        """True for a method whose training continues from the weights of its search."""
        return keeps_weights(self.choices())

    @property
    def prunes_channels(self) -> bool:
        """True for a method that removes whole channels, which makes tensors smaller."""
        return bool(self.unit.entry.facts.get("tensors_smaller"))

    @property
    def updates_masks(self) -> bool:
        """True for a method that changes masks during training."""
        return self.updates.name != "none"

    @property
    def starts_dense(self) -> bool:
        """True for a method that prunes while it trains the dense network."""
        return bool(self.updates.entry.facts["starts"] == "dense")

    @property
    def has_unit(self) -> bool:
        """True for a method that prunes other parts than single weights, or these in a pattern."""
        return self.unit.name != _SINGLE

    @property
    def given_sparsity(self) -> float | None:
        """The sparsity that the pattern of a unit gives, such as 0.5 for 2:4; None for a unit without a pattern."""
        given = self.unit.entry.facts.get("sparsity")
        return given and float(given(self.unit.options()))

    @property
    def pattern(self) -> str:
        """The pattern of a unit, such as `2:4`; empty for a unit without one."""
        label = self.unit.entry.facts.get("label")
        return label(self.unit.options()) if label else ""

    def misfit(self, sparsity: float) -> str:
        """Return the reason why a sparsity is not that of the method's unit; empty if it is, or may be any."""
        given = self.given_sparsity
        if given is None or given <= 0 or abs(sparsity - given) < n_of_m.NEAR:
            return ""
        return f"is {sparsity:g}, but unit `{self.pattern}` removes {given:.4g}"

    @property
    def needs(self) -> str:
        """The source of scores in addition to the network and its data, in words; empty for none."""
        words = {"a scorer": self.needs_scorer, "rounds of IRP": self.needs_rounds, "a ticket": self.needs_order}
        return next((source for source, is_needed in words.items() if is_needed), "")

    def control(self, name: str) -> Method:
        """Return this method with the choices that one control replaces."""
        replaced = dict({**CONTROLS, **OF_TICKETS, **SMALLER}[name][1])
        if "unit" in replaced:
            replaced["unit"] = {**self.unit.model_dump(), **replaced["unit"]}
        return Method.model_validate({**self.model_dump(), **replaced, "name": f"{self.name}.{name}"})


_UNIT: TypeAdapter[Any] = TypeAdapter(UnitChoice)


def is_of_channels(unit: Any) -> bool:
    """Return whether a unit as a spec writes it is a valid one of whole channels."""
    try:
        return bool(_UNIT.validate_python(unit, strict=True).entry.facts.get("tensors_smaller"))
    except ValueError:
        return False


def _filled(method: Mapping[str, Any]) -> Mapping[str, Any]:
    # Without a criterion or a preset: SNIP's channels, or the weights that a scorer predicts.
    is_short = "unit" in method and method.keys() <= {"name", "unit", "horizon"}
    if is_short and is_of_channels(method["unit"]):
        return {"name": default_name(method), **CHANNEL_DEFAULT, **method}
    return {"preset": "learned", **method} if is_short or "horizon" in method else method
