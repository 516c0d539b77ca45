"""A decorated function is a choice: its keyword-only arguments are its options, the signature says all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt

from autosparse.backends import backends
from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.graph.repair import repairs
from autosparse.core.schedule import schedules
from autosparse.core.scorers import scorers
from autosparse.core.selection import selections
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import units
from autosparse.datasets import datasets
from autosparse.errors import UsageError
from autosparse.exporters import exporters
from autosparse.models import models
from autosparse.registry import OneOf, Option, Range, Registry, options_of, suggestion
from autosparse.spec import Spec
from autosparse.steps import operations

if TYPE_CHECKING:
    from a_library_that_is_not_there import Network  # type: ignore[import-not-found]

REGISTRIES: list[Registry[Any]] = [
    allocations, backends, criteria, datasets, exporters, models, operations, repairs, schedules, scorers, units,
    selections,
]  # fmt: skip
ENTRIES = [
    pytest.param(registry, entry, id=f"{registry.kind}:{entry.name}") for registry in REGISTRIES for entry in registry
]


def example(
    network: Network,
    data: Network | None = None,
    *,
    plain: int = 3,
    needed: str,
    bounded: Annotated[float, Gt(0), Range(0.1, 10, log=True), "how much"] = 1.0,
    word: Annotated[Literal["a", "b"], OneOf(("a", "b"))] = "a",
    several: tuple[Annotated[int, Ge(1)], ...] = (1, 2),
) -> Network:
    """Does nothing.

    At some length.
    """
    return network


@pytest.fixture
def things() -> Registry[Any]:
    """A registry of two choices."""
    things: Registry[Any] = Registry("thing", "things")
    things.register(example)

    @things.register(name="global", version=3, heavy=True)
    def named_otherwise() -> None:
        """Reserved words can be names."""

    return things


def test_options_are_the_keyword_only_arguments_in_order() -> None:
    """Positional arguments are the program's, and their types, which may not be importable, are never looked at."""
    assert ["plain", "needed", "bounded", "word", "several"] == list(options_of(example))


def test_an_option_has_its_type_and_default() -> None:
    """Types are resolved although annotations are postponed; an option without a default is required."""
    options = options_of(example)

    assert Option("plain", int, 3, ()) == options["plain"]
    assert (int, False) == (options["plain"].annotation, options["plain"].required)
    assert (str, True) == (options["needed"].annotation, options["needed"].required)
    assert tuple[Annotated[int, Ge(1)], ...] == options["several"].annotation


def test_an_option_has_what_its_annotation_says() -> None:
    """Help, limits of tuning and the release it came with are read from the annotation."""
    options = options_of(example)

    assert "how much" == options["bounded"].help
    assert Range(0.1, 10, log=True) == options["bounded"].tunable
    assert Gt(0) in options["bounded"].metadata
    assert OneOf(("a", "b")) == options["word"].tunable
    assert ("", None) == (options["plain"].help, options["plain"].tunable)


def asked(
    *,
    always: Annotated[int, Range(1, 9)] = 3,
    named: Annotated[str, OneOf(("a", "b"), when_named=True)] = "a",
    between: Annotated[float, Range(0, 1, when_named=True)] = 0.5,
    fixed: int = 1,
) -> None:
    """Has options that are tuned only where a spec names them."""


def test_an_option_may_be_tuned_only_where_it_is_named() -> None:
    """It is tunable, but not among those that are tuned unasked."""
    options = options_of(asked)

    assert ["always", "named", "between"] == [name for name, option in options.items() if option.tunable]
    assert ["always"] == [name for name, option in options.items() if option.is_tuned_unasked]


def test_a_dataclass_has_options_too() -> None:
    """Fields of a keyword-only dataclass are options."""
    options = options_of(Recipe)

    assert 160 == options["epochs"].default
    assert "peak learning rate" == options["lr"].help


def test_a_function_without_options_has_none() -> None:
    """A function that takes only positional arguments has no options."""
    assert {} == options_of(flat)


def flat(network: Network) -> None:
    """Takes what the program gives."""


def test_an_entry_is_named_for_its_function(things: Registry[Any]) -> None:
    """Name, help and options come from the function; version and facts from the registration."""
    entry = things["example"]

    assert ("example", 1, {}) == (entry.name, entry.version, entry.facts)
    assert "Does nothing." == entry.help
    assert options_of(example) == entry.options
    assert example is entry.function


def test_an_entry_may_be_named_otherwise(things: Registry[Any]) -> None:
    """A name that Python reserves, a version and facts are given to the decorator."""
    entry = things["global"]

    assert ("global", 3, {"heavy": True}) == (entry.name, entry.version, entry.facts)


def test_registering_gives_the_function_back() -> None:
    """A decorated function is still that function."""
    things: Registry[Any] = Registry("thing", "things")

    assert example is things.register(example)
    assert flat is things.register(name="another")(flat)


def test_names_are_in_the_order_of_registration(things: Registry[Any]) -> None:
    """Listings show choices in the order in which modules register them."""
    assert ("example", "global") == things.names
    assert ["example", "global"] == [entry.name for entry in things]
    assert "global" in things
    assert "named_otherwise" not in things


def test_a_name_is_taken_once(things: Registry[Any]) -> None:
    """A second function of a name is an error of the program, raised at import."""
    with pytest.raises(ValueError, match="thing 'global' is registered twice"):
        things.register(name="global")(flat)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("exmaple", "did you mean `example`?"),
        ("GLOBAL", "did you mean `global`?"),
        ("nothing like it", "run `autosparse list things`"),
        ("", "run `autosparse list things`"),
    ],
)
def test_an_unknown_name_is_told_what_to_write(things: Registry[Any], name: str, hint: str) -> None:
    """A misspelt name is answered with the nearest one, any other with the command that lists them."""
    with pytest.raises(UsageError) as caught:
        things[name]

    assert (f"there is no thing `{name}`", hint) == (caught.value.message, caught.value.hint)
    assert 2 == caught.value.exit_code
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [("snipp", "did you mean `snip`?"), ("SNIP", "did you mean `snip`?"), ("xyz", None), ("", None)],
)
def test_a_suggestion_is_near_or_nothing(word: str, expected: str | None) -> None:
    """Only a name that could have been meant is suggested."""
    assert expected == suggestion(word, ["grasp", "snip"])


@pytest.mark.parametrize(("registry", "entry"), ENTRIES)
def test_every_registered_function_explains_itself(registry: Registry[Any], entry: Any) -> None:
    """Every choice has a sentence of help and a version, and is found under its name."""
    assert entry.help.endswith((".", ")"))
    assert 1 <= entry.version
    if entry.pattern is None:
        assert entry is registry[entry.name]
    else:  # stands for many names, none of which is its own
        assert entry.name not in registry.names


@pytest.mark.parametrize(("registry", "entry"), [item for item in ENTRIES if item.values[0] is not operations])
def test_every_option_has_a_default_and_tunable_limits_hold_it(registry: Registry[Any], entry: Any) -> None:
    """A choice can be named without options but the place of its files; tunable defaults are where tuning looks."""
    for option in entry.options.values():
        assert option.is_path or not option.required, option.name
        match option.tunable:
            case Range(low, high):
                assert low <= option.default <= high, option.name
            case OneOf(values):
                assert option.default in values, option.name


def test_every_section_of_choices_offers_all_names() -> None:
    """Registered choices can be written in a spec: nothing has to be added elsewhere."""
    for name in models.names:
        assert name == Spec.model_validate({"model": name, "dataset": "digits"}).model.name
    for name in criteria.names:
        spec = Spec.model_validate({"model": "mlp", "dataset": "digits", "method": {"name": "m", "criterion": name}})

        assert name == spec.method.criterion.name
