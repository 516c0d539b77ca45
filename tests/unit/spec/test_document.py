"""YAML text becomes plain data with the place of everything in it; what could surprise is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autosparse.errors import SpecError
from autosparse.spec.document import Document, Mark, parse_document

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{chr(ord(name) - 1)}'] * 9)}]\n" for name in "bcdefghij"
)


def data_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON-like data with these texts; `<<` is refused as a key."""
    leaf = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    key = text.filter(lambda key: key != "<<")
    return st.recursive(
        leaf | text, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(key, inner, max_size=4), max_leaves=12
    )


ANY_TEXT = st.text(max_size=12)
BASIC_TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=12)
YAMLISH = st.text(alphabet="ab1.eE+-0xoN~ \n\t:,[]{}#&*!|>'\"%@`?<=\\U\r\ufeff\u2028\x00\x7f", max_size=60)


class Quoted(yaml.SafeDumper):
    """PyYAML leaves `1e3` and `0o17` bare, being texts in YAML 1.1: quote every text."""


Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def value(text: str) -> Any:
    """Return the value of `key: <text>`."""
    return parse_document(f"key: {text}\n", "f.yaml").data["key"]


def read(text: str) -> None:
    """Parse the text of a file and raise its mistakes."""
    document = parse_document(text, "f.yaml")
    if document.problems:
        raise SpecError.listing(document.problems)


def problem(text: str) -> str:
    """The message of a text that is refused."""
    with pytest.raises(SpecError) as caught:
        read(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("+5", 5),
        ("-5", -5),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1.5e+3", 1500.0),
        ("5.0e-4", 0.0005),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("NO", "NO"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("y", "y"),
        ("nUll", "nUll"),
        ("tRUE", "tRUE"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("0b11", "0b11"),
        ("0o8", "0o8"),
        ("0X1F", "0X1F"),
        ("-0x1F", "-0x1F"),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        ("=", "="),
        ('"1"', "1"),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ('""', ""),
        ("'null'", "null"),
        ("|\n  12", "12\n"),
        (">\n  a\n  b", "a b\n"),
        ("12 # twelve", 12),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, expected: object) -> None:
    """Numbers, booleans and nulls are those of YAML 1.2; everything else, and everything quoted, is a text."""
    parsed = value(text)

    assert (expected, type(expected)) == (parsed, type(parsed))


def test_every_value_and_key_has_its_mark() -> None:
    """Nested values, list items and keys all know the line and column at which they were written."""
    text = "a: 1\nb:\n  c: [x, {d: 2}]\n  'e': |\n    long\nf:\n- g: ~\n"
    expected = Document(
        {"a": 1, "b": {"c": ["x", {"d": 2}], "e": "long\n"}, "f": [{"g": None}]},
        values={
            (): Mark("f.yaml", 1, 1),
            ("a",): Mark("f.yaml", 1, 4),
            ("b",): Mark("f.yaml", 3, 3),
            ("b", "c"): Mark("f.yaml", 3, 6),
            ("b", "c", 0): Mark("f.yaml", 3, 7),
            ("b", "c", 1): Mark("f.yaml", 3, 10),
            ("b", "c", 1, "d"): Mark("f.yaml", 3, 14),
            ("b", "e"): Mark("f.yaml", 4, 8),
            ("f",): Mark("f.yaml", 7, 1),
            ("f", 0): Mark("f.yaml", 7, 3),
            ("f", 0, "g"): Mark("f.yaml", 7, 6),
        },
        keys={
            ("a",): Mark("f.yaml", 1, 1),
            ("b",): Mark("f.yaml", 2, 1),
            ("b", "c"): Mark("f.yaml", 3, 3),
            ("b", "c", 1, "d"): Mark("f.yaml", 3, 11),
            ("b", "e"): Mark("f.yaml", 4, 3),
            ("f",): Mark("f.yaml", 6, 1),
            ("f", 0, "g"): Mark("f.yaml", 7, 3),
        },
    )

    assert expected == parse_document(text, "f.yaml")


def test_nearest_mark_is_that_of_the_deepest_written_value() -> None:
    """A path that was not written is placed at its nearest written parent."""
    document = parse_document("a: {b: 1}\n", "f.yaml")

    assert Mark("f.yaml", 1, 4) == document.nearest(("a", "c", "d"))
    assert Mark("f.yaml", 1, 1) == document.nearest(("z",))


@pytest.mark.parametrize(
    ("mark", "text"), [(Mark("f.yaml", 3, 7), "f.yaml:3:7"), (Mark("--set a=1"), "--set a=1")], ids=["file", "option"]
)
def test_a_mark_reads_as_an_editor_wants_it(mark: Mark, text: str) -> None:
    """A place in a file is `file:line:column`, one on the command line the option itself."""
    assert text == str(mark)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_nothing_is_nothing(text: str) -> None:
    """An empty file is an empty mapping or null, not a crash."""
    assert not parse_document(text, "f.yaml").data


@pytest.mark.parametrize("text", ["---\na: 1\n", "a: 1\n...\n", "%YAML 1.2\n---\na: 1\n", "a: 1\r\n", '{"a": 1}'])
def test_one_document_may_be_framed(text: str) -> None:
    """Document markers, directives, Windows line ends and JSON are all YAML."""
    assert {"a": 1} == parse_document(text, "f.yaml").data


REFUSED = [
    pytest.param("a: 1\nb: 2\na: 3\n", "3:1", "key `a` is repeated (first at line 1)", id="repeated key"),
    pytest.param("x: {b: 1, c: 2, 'b': 3}\n", "1:17", "key `b` is repeated", id="repeated key, nested and quoted"),
    pytest.param("a: 1\nb: &name 3\n", "2:4", "anchors (`&name`) are not allowed", id="anchor"),
    pytest.param("a: *name\n", "1:4", "aliases (`*name`) are not allowed", id="alias"),
    pytest.param("a: !!int 3\n", "1:4", "tags (`!!int`) are not allowed", id="standard tag"),
    pytest.param("a: !!python/object/apply:os.system [ls]\n", "1:4", "tags (", id="python tag"),
    pytest.param("a:\n  - !mine {b: 1}\n", "2:5", "tags (`!mine`) are not allowed", id="own tag"),
    pytest.param("a:\n  <<: {b: 1}\n", "2:3", "merge keys (`<<`) are not allowed", id="merge key"),
    pytest.param("a: 1\n---\nb: 2\n", "2:1", "a second document begins here", id="second document"),
    pytest.param("a: .inf\n", "1:4", ".inf is not a finite number", id="infinity"),
    pytest.param("a: [1, -.INF]\n", "1:8", "-.INF is not a finite number", id="minus infinity"),
    pytest.param("a: .nan\n", "1:4", ".nan is not a finite number", id="not a number"),
    pytest.param("a: 1\nb: 1e999\n", "2:4", "1e999 is too large", id="overflow"),
    pytest.param("a: 1\nb: x\x01\n", "2:5", "character 1 is not allowed", id="control character"),
    pytest.param("\x00", "1:1", "character 0 is not allowed", id="null character"),
    pytest.param("a:\n\tb: 1\n", "2:1", "found character '\\t'", id="tab"),
    pytest.param("a: [1, 2\n", "2:1", "expected ',' or ']'", id="open list"),
    pytest.param('a: "b\n', "2:1", "unexpected end of stream", id="open text"),
    pytest.param("a: b: c\n", "1:5", "mapping values are not allowed here", id="two colons"),
    pytest.param("? [a]\n: 1\n", "1:3", "a key must be a plain word", id="list as a key"),
    pytest.param("? {a: 1}\n: 1\n", "1:3", "a key must be a plain word", id="mapping as a key"),
    pytest.param("? &a b\n: 1\n", "1:3", "a key must be a plain word", id="anchored key"),
    pytest.param("a: " + "x" * 2**20, "1:1", "the file is larger than 1 MiB", id="over 1 MiB"),
    pytest.param("é" * (2**19 + 1), "1:1", "the file is larger than 1 MiB", id="over 1 MiB of bytes"),
    pytest.param("[" * 66 + "]" * 66, "1:66", "values are nested more than 64 deep", id="66 lists"),
    pytest.param("[" * 100_000, "1:66", "values are nested more than 64 deep", id="100,000 open brackets"),
    pytest.param("{a: " * 100_000, "1:261", "values are nested more than 64 deep", id="100,000 open braces"),
    pytest.param("- " * 100_000, "1:131", "values are nested more than 64 deep", id="100,000 dashes"),
    pytest.param(BOMB, "1:4", "anchors (`&a`) are not allowed", id="a billion laughs"),
]


@pytest.mark.parametrize(("text", "path", "piece"), REFUSED)
def test_refused_with_its_place(text: str, path: str, piece: str) -> None:
    """YAML that a spec does not allow is refused at its line and column, and quickly."""
    begin = time.monotonic()
    message = problem(text)

    assert message.startswith(f"f.yaml:{path}: ")
    assert piece in message
    assert 20 > time.monotonic() - begin


@pytest.mark.slow
def test_too_many_values_are_refused() -> None:
    """A file may be small and still hold more values than any spec."""
    message = problem("[" + "a," * 110_000 + "]")

    assert "the file holds more than 100000 values" in message


@pytest.mark.parametrize("depth", [1, 64])
def test_reasonable_nesting_is_read(depth: int) -> None:
    """Up to 64 levels are read."""
    text = "[" * depth + "1" + "]" * depth

    assert json.loads(text) == parse_document(text, "f.yaml").data


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: &b 1\n", "share a base by `extends:`"),
        ("a: *b\n", "write the value out"),
        ("<<: {}\n", "share a base by `extends:`"),
        ("a:\n\tb: 1\n", "indent with spaces"),
        ("a: 1\n---\nb: 1\n", "a spec is one document"),
    ],
)
def test_a_refusal_says_what_to_write_instead(text: str, hint: str) -> None:
    """The remedy is in the hint."""
    with pytest.raises(SpecError) as caught:
        read(text)

    assert hint == caught.value.hint


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data_of(ANY_TEXT))
@example({"a": "1e3", "b": "0o17", "c": "NO", "d": [1e-300, 1e16, -0.0]})
def test_what_pyyaml_dumps_is_read_back(data: Any) -> None:
    """Any JSON-like data, dumped as YAML with its texts quoted, parses back equal."""
    text = yaml.dump({"data": data}, Dumper=Quoted)

    assert {"data": data} == parse_document(text, "f.yaml").data


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data_of(BASIC_TEXT), st.sampled_from([None, 1]))
def test_json_is_yaml(data: Any, indent: int | None) -> None:
    """Any JSON text below U+10000 parses to what json.loads makes of it."""
    text = json.dumps({"data": data}, indent=indent)

    assert {"data": data} == parse_document(text, "f.yaml").data


@settings(max_examples=200, deadline=None, derandomize=True)
@given(YAMLISH | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, it parses or raises a SpecError that names a place in the file."""
    try:
        read(text)
    except SpecError as error:
        assert error.message.startswith("f.yaml:")  # noqa: PT017  # most texts do not raise


@pytest.mark.parametrize(
    "text",
    ['a: "\\UFFFFFFFF"\n', 'a: "\\U00110000"\n', f"%YAML 1.{'1' * 5000}\n---\na: 1\n", "a: \udcff\n"],
    ids=["escape beyond C int", "escape beyond Unicode", "directive of 5,000 digits", "surrogate"],
)
def test_numbers_that_pyyaml_trusts_are_refused(text: str) -> None:
    """Escapes and directives with absurd numbers are refused like any other bad text."""
    assert problem(text).startswith("f.yaml:")


def test_json_beyond_the_basic_plane() -> None:
    """JSON writes U+1F600 as two escapes: they are one character."""
    assert {"a": "\U0001f600"} == parse_document(json.dumps({"a": "\U0001f600"}), "f.yaml").data


def test_half_a_surrogate_pair_is_refused() -> None:
    """A text that cannot be written as UTF-8 is refused where it is read."""
    assert problem('a: "\\ud800"\n').startswith("f.yaml:1:4: ")
