"""Sections are built from signatures; the JSON Schema says to editors what loading says to everyone."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import Ge
from pydantic import BaseModel, TypeAdapter, ValidationError

from autosparse.backends import Machine
from autosparse.core.presets import PRESETS
from autosparse.core.training.recipe import Recipe
from autosparse.models import models
from autosparse.registry import Registry, options_of
from autosparse.spec import Method, Spec, load_spec, resolve, shipped, spec_schema
from autosparse.spec.choices import choice_of

# jsonschema has no types; the module is reached by name so that type checkers leave it alone.
Validator: Any = importlib.import_module("jsonschema").Draft202012Validator
MACHINE = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
SHIPPED = [path for kind in ("specs", "templates") for path in shipped(kind).values()]
GOOD: dict[str, Any] = {"model": "resnet8", "dataset": "digits"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The JSON Schema that `autosparse schema` prints."""
    return spec_schema()


def is_valid(schema: dict[str, Any], data: Any) -> bool:
    """Return whether an editor would accept a spec."""
    return bool(Validator(schema).is_valid(data))


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    """The schema is valid JSON Schema of the draft it names."""
    Validator.check_schema(schema)

    assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_schema_accepts_every_shipped_spec(schema: dict[str, Any], path: Path) -> None:
    """Specs and templates are valid, as they are written and as they resolve."""
    resolved = resolve(load_spec(path).spec, MACHINE).model_dump(mode="json")

    assert [] == [error.message for error in Validator(schema).iter_errors(yaml.safe_load(path.read_text()))]
    assert [] == [error.message for error in Validator(schema).iter_errors(resolved)]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"budget": 0.9},
        {"budget": [0, 0.5]},
        {"budget": ["99%", "50x", "2.5 x"]},
        {"budget": {"parameters": "120k"}},
        {"budget": [{"macs": "30%"}, {"parameters": "12.5 %"}, {"bytes": "4x"}]},
        {"budget": [0.9, {"macs": "5M"}, {"macs": 700}, {"bytes": "1.5 MiB"}, {"bytes": "3k"}]},
        {"seeds": 3},
        {"method": "snip"},
        {"method": {"criterion": "snip", "allocation": "erk", "schedule": {"name": "linear", "rounds": 3}}},
        {"method": {"name": "mine", "criterion": {"name": "snip", "images": 8}, "allocation": "erk"}},
        {"compare": ["dense", "erk", {"criterion": "grasp"}]},
        {"compare": []},
        {"compare": {"methods": ["dense", "erk"], "lr": [0.1, 0.2]}},
        {"compare": {"lr": [0.1, 0.2], "label_smoothing": [0.0, 0.1]}},
        {"method": "auto"},
        {"dense_lengths": [0.5, 2]},
        {"dense_lengths": 0.5},
        {"irp": {"model": None, "training": None}},
        {"irp": {"model": {"name": "resnet20"}, "training": {"lr": 1}, "seeds": [1, 2]}},
        {"target": {"threads": "auto", "device": "cuda:1"}},
        {"target": {"threads": 4}},
        {"tuning": {"options": "auto"}},
        {"tuning": {"options": ["ridge"]}},
        {"model": {"name": "mlp", "widths": [3, 4]}},
    ],
    ids=str,
)
def test_the_schema_accepts_what_loading_accepts(schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Every way to write a value is in the schema."""
    data = {**GOOD, **given}
    Spec.model_validate(data)

    assert [] == [error.message for error in Validator(schema).iter_errors(data)]


@pytest.mark.parametrize(
    "given",
    [
        {"modle": "resnet8"},
        {"training": {"epoch": 3}},
        {"model": {"name": "resnet8", "widht": 3}},
        {"model": "resnet9"},
        {"model": {"width": 3}},
        {"dataset": 3},
        {"method": "snipp"},
        {"method": {"criterion": "snipp"}},
        {"method": {"allocation": "erk"}},
        {"compare": ["snpi"]},
        {"compare": {"methods": ["snpi"], "lr": [0.1, 0.2]}},
        {"compare": {"lr": [0.1]}},
        {"compare": {"lr": 0.1}},
        {"dense_lengths": [0]},
        {"budget": 99},
        {"budget": [1.0]},
        pytest.param({"budget": []}),
        {"budget": "99"},
        {"budget": {"params": 3}},
        {"budget": {"macs": "5m"}},
        {"budget": {"parameters": "5kB"}},
        {"budget": {"macs": 0}},
        {"budget": {"macs": 0.3}},
        {"budget": {"macs": "30%%"}},
        {"budget": [{"macs": 3, "bytes": 3}]},
        {"training": {"lr": 0}},
        {"training": {"batch": 1.5}},
        {"training": {"epochs": "3"}},
        {"target": {"threads": 0}},
        {"irp": {"rounds": 0}},
        {"emit": ["onx"]},
        {"version": 2},
    ],
    ids=str,
)
def test_the_schema_rejects_what_loading_rejects(schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Unknown keys, misspelt names, wrong types and ranges are marked in the editor too."""
    data = {**GOOD, **given}
    with pytest.raises(ValidationError):
        Spec.model_validate(data, strict=True)

    assert not is_valid(schema, data)


def test_the_schema_knows_bases(schema: dict[str, Any]) -> None:
    """A spec that extends another need not repeat required keys; any other must."""
    assert is_valid(schema, {"extends": "base.yaml"})
    assert not is_valid(schema, {"extends": 3})
    assert not is_valid(schema, {"model": "resnet8"})


def test_every_key_says_what_it_means(schema: dict[str, Any]) -> None:
    """Editors show a sentence for every key of the spec and its sections."""
    silent = [name for name, about in schema["properties"].items() if not about.get("description")]
    sections = ("Target", "Irp", "Tuning", "Recipe")
    silent += [
        f"{section}.{name}"
        for section in sections
        for name, about in schema["$defs"][section]["properties"].items()
        if not about.get("description")
    ]

    assert [] == silent


def test_training_has_the_recipe_s_fields() -> None:
    """The section's keys and defaults are those of the dataclass that training takes."""
    training = Spec.model_validate(GOOD).training
    defaults = {name: option.default for name, option in options_of(Recipe).items()}

    assert isinstance(training, BaseModel)
    assert defaults == training.model_dump()
    assert Recipe(**training.model_dump()) == Recipe()


@pytest.mark.parametrize("entry", list(models), ids=lambda entry: entry.name)
def test_a_choice_by_name_has_its_defaults(entry: Any) -> None:
    """`model: name` means the mapping with that name and every default of the signature."""
    spec = Spec.model_validate({**GOOD, "model": entry.name})
    defaults = {name: option.default for name, option in entry.options.items()}

    assert {"name": entry.name, **defaults} == spec.model.model_dump()
    assert spec == Spec.model_validate({**GOOD, "model": {"name": entry.name}})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_means_its_four_choices(name: str) -> None:
    """A preset's name and its choices written out are the same method, and have the same key."""
    by_name = Method.model_validate(name)
    written = Method.model_validate({"name": "another", **PRESETS[name][1]})

    assert name == by_name.name
    assert by_name.choices() == written.choices()
    assert by_name == Method.model_validate(by_name.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ({"criterion": "snip"}, "snip"),
        ({"criterion": "snip", "allocation": "erk"}, "snip+erk"),
        ({"criterion": {"name": "snip"}, "selection": "shuffle"}, "snip+shuffle"),
        ({"criterion": "snip", "allocation": "erk", "name": "mine"}, "mine"),
        ({"criterion": "synflow"}, "synflow+global+top+one_shot"),  # the preset has 100 rounds
        ({"criterion": "random"}, "random+global+top+one_shot"),  # the preset is uniform
    ],
)
def test_a_method_is_named_for_its_choices(written: dict[str, Any], name: str) -> None:
    """A method without a name is called by the choices it writes."""
    if name == "snip":
        assert Method.model_validate("snip") == Method.model_validate(written)

    assert name == Method.model_validate(written).name


@pytest.mark.parametrize(
    "written", [{"criterion": "snip", "schedule": "linear"}, {"criterion": {"name": "snip", "images": 8}}], ids=str
)
def test_an_unnamed_method_is_not_taken_for_a_preset(written: dict[str, Any]) -> None:
    """A method that no one named may have a preset's criterion and other options."""
    assert "snip" != Method.model_validate(written).name


def test_a_preset_s_name_means_the_preset_alone() -> None:
    """`{name: snip}` with the preset's own choices is the preset; with others it is refused."""
    assert Method.model_validate("snip") == Method.model_validate({"name": "snip", "criterion": "snip"})

    with pytest.raises(ValidationError, match="cannot be named 'snip': that is another method"):
        Method.model_validate({"name": "snip", "criterion": "grasp"})


@pytest.mark.parametrize(
    ("written", "name", "changed"),
    [
        ({"preset": "synflow"}, "synflow", {}),
        ({"preset": "synflow", "repair": "reconnect"}, "synflow+reconnect", {"repair": "reconnect"}),
        (
            {"preset": "force", "schedule": {"name": "linear", "rounds": 5}},
            "force+linear.rounds-5",
            {"schedule": {"name": "linear", "rounds": 5}},
        ),
        ({"preset": "npb", "name": "mine", "allocation": "igq"}, "mine", {"allocation": "igq"}),
    ],
)
def test_a_preset_takes_other_parts(written: dict[str, Any], name: str, changed: dict[str, Any]) -> None:
    """The rest is the preset's, and its name has both."""
    method = Method.model_validate(written)

    expected = Method.model_validate({"name": "other", **PRESETS[written["preset"]][1], **changed})
    assert (name, expected.choices()) == (method.name, method.choices())


@pytest.mark.parametrize("control", ["shuffle", "layer_mean"])
def test_a_control_replaces_only_what_it_says(control: str) -> None:
    """A control has the method's criterion and schedule, and another name."""
    method = Method.model_validate({"name": "mine", "criterion": "snip", "schedule": {"name": "linear", "rounds": 2}})
    result = method.control(control)

    assert f"mine.{control}" == result.name
    assert (method.criterion, method.schedule) == (result.criterion, result.schedule)
    assert "shuffle" == result.selection.name


def test_methods_are_listed_once() -> None:
    """`method` comes first; one that is compared with itself is not run twice."""
    spec = Spec.model_validate({**GOOD, "method": "snip", "compare": ["erk", "snip", "dense", "erk"]})

    assert ["snip", "erk"] == [method.name for method in spec.methods]


@pytest.fixture
def shapes() -> Registry[Any]:
    """A separate registry with a choice that has options, one that has none and one that needs an option."""
    shapes: Registry[Any] = Registry("shape", "shapes")

    @shapes.register
    def circle(path: str, *, radius: Annotated[int, Ge(1), "from the middle"] = 3) -> None:
        """A round shape."""

    @shapes.register
    def point(path: str) -> None:
        """A small shape."""

    @shapes.register
    def square(path: str, *, side: int) -> None:
        """A shape with corners."""

    return shapes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("circle", {"name": "circle", "radius": 3}),
        ("point", {"name": "point"}),
        ({"name": "circle"}, {"name": "circle", "radius": 3}),
        ({"name": "circle", "radius": 1}, {"name": "circle", "radius": 1}),
        ({"name": "square", "side": 2}, {"name": "square", "side": 2}),
    ],
)
def test_a_choice_is_a_name_or_a_mapping(shapes: Registry[Any], value: Any, expected: dict[str, Any]) -> None:
    """A registered function becomes a section of its keyword-only arguments; a name alone takes the defaults."""
    assert expected == TypeAdapter(choice_of(shapes)).validate_python(value).model_dump()


@pytest.mark.parametrize(
    "value",
    [
        "oval",
        "square",
        {"name": "square"},
        {"radius": 3},
        {"name": "circle", "radius": 0},
        {"name": "point", "radius": 3},
        {"name": "circle", "place": "here"},
        3,
        None,
    ],
    ids=str,
)
def test_a_choice_is_nothing_else(shapes: Registry[Any], value: Any) -> None:
    """Other names, missing and wrong options, positional arguments and other types are refused."""
    with pytest.raises(ValidationError):
        TypeAdapter(choice_of(shapes)).validate_python(value)


def test_a_choice_knows_its_entry_and_keyed_form(shapes: Registry[Any]) -> None:
    """The keyed form of a choice is its name, the version of its function and every option."""
    circle = TypeAdapter(choice_of(shapes)).validate_python("circle")

    assert shapes["circle"] is circle.entry
    assert {"name": "circle", "version": 1, "options": {"radius": 3}} == circle.keyed()


def test_repair_is_part_of_a_method() -> None:
    """It has another name and another key; no repair leaves the key unchanged."""
    plain = Method.model_validate({"criterion": "magnitude"})
    written = Method.model_validate({"criterion": "magnitude", "repair": "none", "name": "magnitude"})
    mended = Method.model_validate({"criterion": "magnitude", "repair": "reconnect"})

    assert plain.choices() == written.choices()
    assert "repair" not in plain.choices()
    assert "magnitude+reconnect" == mended.name
    assert {**plain.choices(), "repair": {"name": "reconnect", "version": 1, "options": {}}} == mended.choices()
    assert mended.choices() != mended.control("shuffle").choices()
    assert "reconnect" == mended.control("shuffle").repair.name
