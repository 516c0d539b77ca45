"""The sections of a spec: every key with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le, MinLen
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WrapValidator
from pydantic_core import PydanticCustomError

from autosparse.core.presets import CONTROLS, OTHER_WEIGHTS
from autosparse.spec.budget import Budget
from autosparse.spec.choices import (
    DatasetChoice,
    FormatChoice,
    ModelChoice,
    Seeds,
    TrackerChoice,
    Training,
    about,
    check_lengths,
    check_values,
    combinations,
    listed,
)
from autosparse.spec.diagnostics import refusal
from autosparse.spec.document import METHODS
from autosparse.spec.learning import (
    MOST_ROUNDS,
    Irp,
    Pretrained,
    Scorer,
    Ticket,
    Tuning,
    check_folds,
    check_proxy,
    check_selections,
    check_split,
)
from autosparse.spec.method import Method, is_of_channels
from autosparse.spec.method_name import DENSE
from autosparse.spec.sanity import Sanity, check_checked, check_checked_budget, check_checked_seeds, if_true
from autosparse.spec.section import Different, Rule, Section, go_on
from autosparse.spec.target import Target, no_boolean, store_location
from autosparse.text import quoted

Budgets = Annotated[
    tuple[Annotated[Budget, WrapValidator(go_on)], ...],
    MinLen(1),
    Different(),
    BeforeValidator(listed, json_schema_input_type=Budget | Annotated[tuple[Budget, ...], MinLen(1)]),
]


AUTO = "auto"
Length = Annotated[float, Gt(0), Le(1000)]

_COMPARED_CHANNELS = ("magnitude", "snip", "synflow")
"""The methods that are compared by default with one of whole channels, in its unit."""

Compared = Annotated[
    Annotated[Literal["dense"], Tag("dense")] | Annotated[Method, Tag("method")],
    Discriminator(lambda value: "dense" if isinstance(value, str) and value == DENSE else "method"),
    WrapValidator(go_on),
]


class Spec(Section):
    """A network to prune, its budgets, and the methods to compare.

    Examples:
        >>> spec = Spec.model_validate({"model": "lenet", "dataset": "digits", "budget": (0.9,)})
        >>> spec.method.name, spec.budget
        ('learned', (0.9,))
    """

    version: Annotated[Literal[1], BeforeValidator(no_boolean), about("format version")] = 1
    model: Annotated[ModelChoice, about("the network to prune")]
    dataset: Annotated[DatasetChoice, about("training, validation and test images")]
    budget: Annotated[
        Budgets,
        about(
            "one or several budgets: the fraction of prunable weights removed (0.99, 99%, 100x), or a maximum for the "
            "pruned network in parameters, macs, bytes or latency ({macs: 5M}, {latency: 5ms}), also relative to the "
            "dense network ({macs: 30%} keeps at most 30 %, {latency: 2x} is twice as fast)"
        ),
    ] = (0.9, 0.95, 0.98)
    target: Annotated[Target, about("machine, resource limits and backend")] = Field(default_factory=lambda: Target())
    method: Annotated[Method, about("pruning method whose models are exported")] = Field(
        default="learned", validate_default=True
    )
    method_by: Annotated[
        Literal["spec", "validation"],
        about(
            "validation: the compared method with the best validation accuracy in earlier runs of the spec, within "
            "`target.time`; also written `method: auto`"
        ),
    ] = "spec"
    irp: Annotated[Irp, about("iterative rewind pruning, source of the labels")] = Field(default_factory=lambda: Irp())
    scorer: Annotated[Scorer, about("scorer trained on the labels, or a pretrained one")] = Field(
        default="quota", validate_default=True
    )
    tuning: Annotated[Tuning, about("hyperparameter tuning of the scorer")] = Field(default_factory=lambda: Tuning())
    ticket: Annotated[Ticket, about("source of the ticket of methods with criterion `order`")] = Field(
        default_factory=lambda: Ticket()
    )
    training: Annotated[Training, about("training recipe of every network in the comparison")] = Field(
        default_factory=lambda: Training()
    )
    compare: Annotated[
        tuple[Compared, ...],
        about("baselines for `method`; `dense` is the unpruned network; of `unit: channel` by default whole channels"),
    ] = Field(("random", "erk", "magnitude", "snip", "grasp", "synflow", DENSE), validate_default=True)
    dense_lengths: Annotated[
        tuple[Annotated[Length, WrapValidator(go_on)], ...],
        Different(),
        BeforeValidator(listed, json_schema_input_type=Length | tuple[Length, ...]),
        about(
            "lengths at which the dense network is trained too, in multiples of `training.epochs`, such as [0.5, 2]: "
            "the reference curve of accuracy against cost"
        ),
    ] = ()
    per_method: Annotated[
        Mapping[str, Annotated[tuple[Any, ...], MinLen(1)]],
        about(
            "fields of `training` whose value every method chooses on validation images: field -> its values, such as "
            "{lr: [0.05, 0.1, 0.2]}; tried at the first seed, once a budget. Also written `compare: {methods:, lr:}`"
        ),
    ] = Field(default_factory=dict)
    controls: Annotated[
        tuple[
            Annotated[Literal["shuffle", "layer_mean", "other_weights", "width", "random"], WrapValidator(go_on)], ...
        ],
        Different(),
        about(
            "ablations of `method` that keep only its layer quotas or layer means; a ticket's masks on other initial "
            "weights; of whole channels, also the network at a smaller width and random channels"
        ),
    ] = ("shuffle", "layer_mean", "other_weights", "width", "random")
    sanity: Annotated[
        Sanity | None,
        BeforeValidator(if_true, json_schema_input_type=Sanity | bool | None),
        about("sanity checks of a method's choice of weights; true selects all, null none"),
    ] = None
    seeds: Annotated[Seeds, about("random seeds; every method runs once per seed")] = (0,)
    emit: Annotated[
        tuple[FormatChoice, ...],
        Different(),
        about("export formats of the pruned models of `method`: first seed, every budget"),
    ] = Field(default=("safetensors",), validate_default=True)
    track: Annotated[
        tuple[TrackerChoice, ...],
        Different(),
        BeforeValidator(listed, json_schema_input_type=TrackerChoice | tuple[TrackerChoice, ...]),
        about("experiment trackers; not part of the cache key, and a failed tracker does not stop the run"),
    ] = ()
    store: Annotated[
        str | None,
        AfterValidator(store_location),
        about(
            "URL of the artifact store shared between machines: `s3://bucket/prefix`, `gs://...`, an absolute path or "
            "any fsspec URL; not part of the cache key. Default: the environment variable `AUTOSPARSE_STORE`, or none"
        ),
    ] = None
    study: Annotated[
        Mapping[str, Annotated[tuple[Any, ...], MinLen(1)]],
        about("parameter sweep of `autosparse study`: path of an option -> its values, one option at a time"),
    ] = Field(default_factory=dict)

    @classmethod
    def expanded(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if isinstance(compare := value.get("compare"), Mapping):
            fields = {name: values for name, values in compare.items() if name != METHODS}
            rest = {name: part for name, part in value.items() if name != "compare"}
            methods = {"compare": compare[METHODS]} if METHODS in compare else {}
            both = value.get("per_method", {})
            value = {**rest, **methods, "per_method": {**fields, **both} if isinstance(both, Mapping) else both}
        if value.get("method") == AUTO:
            compared = value.get("compare", cls.model_fields["compare"].default)
            first = next((one for one in listed(compared) if one != DENSE), "learned")
            value = {**value, "method": first, "method_by": "validation"}
        if "compare" in value or not isinstance(value.get("method"), Mapping):
            return value
        if not is_of_channels(unit := value["method"].get("unit")):
            return value
        return {**value, "compare": (*({"preset": name, "unit": unit} for name in _COMPARED_CHANNELS), DENSE)}

    def rules(self) -> tuple[Rule, ...]:
        sanity = (self._checked, self._checked_budget, self._checked_seeds) if self._has_sanity else ()
        learning = (self._proxy_apart, self._seeds_apart, self._split, self._folds, self._selections)
        rounds = (self._one_number_of_epochs, self._rounds_leave_something, self._rounds_teach_something)
        patterns = (self._patterned, self._saves_time)
        return (self._names_differ, self._fair, *patterns, *sanity, *learning, self._tunable, self._in_range, *rounds)

    @property
    def _has_sanity(self) -> bool:
        return self.__dict__.get("sanity") is not None

    @property
    def ablations(self) -> tuple[str, ...]:
        """The controls that apply to the method's unit."""
        quotas = self.method.given_sparsity is None  # a pattern gives them

        def applies(name: str) -> bool:
            if name == OTHER_WEIGHTS:
                return self.method.needs_order and self.ticket.initialize
            if name in CONTROLS:
                return quotas or "allocation" not in CONTROLS[name][1]
            return self.method.prunes_channels

        return tuple(filter(applies, self.controls))

    def _names_differ(self) -> Iterator[PydanticCustomError]:
        shuffled = self.method.criterion.entry.facts.get("shuffled")
        seen = {} if shuffled else {f"{self.method.name}.{name}": self.method.control(name) for name in self.ablations}
        seen.setdefault(self.method.name, self.method)
        for index, method in enumerate(self.compare):
            if isinstance(method, Method) and seen.setdefault(method.name, method) != method:
                yield refusal(f"is another method named {method.name!r}", "give it another `name`", ("compare", index))

    def _fair(self) -> Iterator[PydanticCustomError]:
        yield from check_values(self.per_method, self.training)
        yield from check_lengths(self.dense_lengths, self.training.epochs, chosen="epochs" in self.per_method)
        if self.per_method and self._has_sanity:
            message = "trains by one recipe, but `compare` gives every method its own"
            yield refusal(message, "remove `sanity`, or the values in `compare`", ("sanity",))

    @property
    def recipes(self) -> tuple[dict[str, Any], ...]:
        """The combinations of values that every method chooses from; empty without `per_method`."""
        return combinations(self.per_method, self.training)

    def _patterned(self) -> Iterator[PydanticCustomError]:
        written = "budget" in self.model_fields_set
        for method in self.methods:
            for index, budget in enumerate(self.budget):
                if isinstance(budget, float) and (message := method.misfit(budget)):
                    hint = f"write `budget: {method.given_sparsity:.4g}`"
                    if written:
                        yield refusal(f"{message}, in method `{method.name}`", hint, ("budget", index))
                    else:
                        given = f"gives a sparsity of {method.given_sparsity:.4g}"
                        yield refusal(f"{given}, but `budget` is {budget:g} by default", hint, ("method", "unit"))
                    break

    def _saves_time(self) -> Iterator[PydanticCustomError]:
        # Zeros between other weights are multiplied as well.
        methods = (self.method, *self.methods)
        of_weights = next((method.name for method in methods if not method.prunes_channels), None)
        for index, budget in enumerate(self.budget):
            if of_weights and not isinstance(budget, float) and budget.currency == "latency":
                message = f"is a latency, but `{of_weights}` prunes single weights, which buys no time in onnxruntime"
                other = "" if of_weights == self.method.name else ", or remove it from `compare`"
                yield refusal(message, f"`unit: channel` for that method{other}", ("budget", index))

    def _checked(self) -> Iterator[PydanticCustomError]:
        compared = [method.name for method in self.compared]
        assert self.sanity is not None
        yield from check_checked(self.sanity, self.method.name, compared, bool(self.baselines))

    def _checked_budget(self) -> Iterator[PydanticCustomError]:
        assert self.sanity is not None
        yield from check_checked_budget(self.sanity, self.budget)

    def _checked_seeds(self) -> Iterator[PydanticCustomError]:
        assert self.sanity is not None
        yield from check_checked_seeds(self.sanity, self.seeds)

    def _proxy_apart(self) -> Iterator[PydanticCustomError]:
        if self.learns:
            networks = self.irp.networks or (self.model,)
            same = self.irp.dataset in (None, self.dataset) and networks[0] == self.model
            yield from check_proxy(self.tuning, self.irp, self.seeds, same=same)

    def _seeds_apart(self) -> Iterator[PydanticCustomError]:
        both = [seed for seed in self.irp.seeds if seed in self.seeds]
        if not self.learns or not both:
            return
        networks = self.irp.networks or (self.model,)
        if self.irp.dataset in (None, self.dataset) and self.model in networks:
            # The labels would depend on a training of this very network: no pruning at initialization.
            free = next(seed for seed in count(100) if seed not in self.seeds)
            is_written = "seeds" in self.irp.model_fields_set
            other = "seeds" if is_written else "irp.seeds"
            yield refusal(
                f"must not name {both[0]}, a seed of `{other}`: "
                "the scorer would be judged on a network it learned from",
                f"such as `irp: {{seeds: [{free}]}}`",
                ("irp", "seeds") if is_written else ("seeds",),
            )

    def _split(self) -> Iterator[PydanticCustomError]:
        if self.learns:
            yield from check_split(self.tuning, self.irp)

    def _folds(self) -> Iterator[PydanticCustomError]:
        if self.learns:
            yield from check_folds(self.tuning, self.irp)

    def _selections(self) -> Iterator[PydanticCustomError]:
        if self.learns:
            method = next(method for method in self.methods if method.needs_scorer)
            yield from check_selections(self.tuning, method.name, method.selection, searches=method.searches)

    def _one_number_of_epochs(self) -> Iterator[PydanticCustomError]:
        recipe: Any = self.irp.training
        written = recipe is not None and "epochs" in recipe.model_fields_set
        if written and self.irp.epochs not in ("auto", recipe.epochs):
            yield refusal(
                f"is {self.irp.epochs}, but `irp.training.epochs` is {recipe.epochs}", "write one", ("irp", "epochs")
            )

    def _tunable(self) -> Iterator[PydanticCustomError]:
        if self.tuning.options == "auto" or isinstance(self.scorer, Pretrained):
            return
        known = [name for name, option in self.scorer.entry.options.items() if option.tunable]
        for index, name in enumerate(self.tuning.options):
            if name not in known:
                message = f"must be a tunable option of scorer {self.scorer.name} but is {quoted(name)}"
                yield refusal(message, f"tunable: {', '.join(known)}", ("tuning", "options", index))

    def _in_range(self) -> Iterator[PydanticCustomError]:
        if self.tuning.options == "auto" or isinstance(self.scorer, Pretrained):
            return
        values, known = self.scorer.options(), self.scorer.entry.options
        for name in dict.fromkeys(self.tuning.options):
            if name in known and (limits := known[name].tunable) and (value := values[name]) not in limits:
                hint = f"tunable {name}: {limits}"
                yield refusal(f"is {value}, outside the range in which tuning looks", hint, ("scorer", name))

    def _rounds_leave_something(self) -> Iterator[PydanticCustomError]:
        rounds, share = self.irp.rounds, self.irp.per_round
        if self.irp.per_round_of == "all" and rounds != "auto" and rounds * share >= 1:
            message = f"removes {share:g} of all weights in each of {rounds} rounds: none would be left"
            yield refusal(message, f"such as `per_round: {0.95 / rounds:.2g}`", ("irp", "per_round"))

    def _rounds_teach_something(self) -> Iterator[PydanticCustomError]:
        rounds = self.fewest_rounds if self.irp.rounds == "auto" else self.irp.rounds
        left, below = self.irp.left_after(rounds), self._learns_below
        if left > below:
            scorer = self.scorer.name  # type: ignore[union-attr]
            yield refusal(
                f"leaves {100 * left:.0f} % of the weights, but scorer `{scorer}` learns from rounds that leave "
                f"{100 * below:.0f} % or less",
                "more rounds, or a larger `per_round`",
                ("irp", "rounds"),
            )

    @property
    def fewest_rounds(self) -> int:
        """The least number of IRP rounds from which the scorer can learn."""
        below = self._learns_below
        return next((n for n in range(1, MOST_ROUNDS) if self.irp.left_after(n) <= below), MOST_ROUNDS)

    @property
    def _learns_below(self) -> float:
        # The largest share of the weights that rounds may leave.
        return float(self.scorer.entry.facts.get("learns_below", 1.0)) if self.learns else 1.0  # type: ignore[union-attr]

    @property
    def compared(self) -> tuple[Method, ...]:
        """The methods compared with `method`."""
        return tuple(method for method in self.methods if method.name != self.method.name)

    @property
    def baselines(self) -> tuple[Method, ...]:
        """The compared methods that prune at initialization: without those that train first, or change masks later."""
        return tuple(
            method
            for method in self.compared
            if not (method.needs_rounds or method.updates_masks or method.keeps_weights)
        )

    @property
    def learns(self) -> bool:
        """True if the plan trains a scorer, from IRP on."""
        return not isinstance(self.scorer, Pretrained) and any(method.needs_scorer for method in self.methods)

    @property
    def methods(self) -> tuple[Method, ...]:
        """`method` and the methods compared with it, without duplicates."""
        listed = (self.method, *(item for item in self.compare if isinstance(item, Method)))
        return tuple({method.name: method for method in reversed(listed)}.values())[::-1]
