"""Hostile specs: the loader accepts a file or an option, or reports it in sentences with positions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.errors import AutosparseError, Problem, SpecError
from autosparse.packaged import shipped
from autosparse.spec import load_spec, parse_list, take_spec
from tests.conftest import Workspace, call
from tests.faults.hostile_specs import GOOD, hostile_specs

EXAMPLES = int(os.environ.get("AUTOSPARSE_FUZZ", "150"))
"""Number of generated specs; a campaign sets 200000 and draws others each time."""

UNEXPECTED = "the spec cannot be read: "  # the last resort of the loader: a rule is missing

TEXTS = [path.read_text() for kind in ("specs", "templates") for path in shipped(kind).values()]
DATA = [yaml.safe_load(text) for text in TEXTS]
NAMES = sorted({str(key) for data in DATA for key in data} | {"name", "criterion", "selection", "extends", "study"})

PIECES = [*"{}[]:,-&*!|>'\"%@`#?~\n\t \0", "\ud83d", "<<: ", "--- ", "9" * 400, "!!int "]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**63, 2**64, 10**290, -(10**308), 0.0, -0.0, 1e-308, 1e308, 0.5, 2.5]),
    st.floats(),
    st.sampled_from(["", "auto", "~nosuchuser/x", "~", "a.py:b", "a\0b", "99%", "100x", "8GiB", "2h", "x" * 5000]),
    st.sampled_from(["timm:a", "torchvision:b", "os:system", "\u202e", "../..", "0x10", "2020-01-01", "snip", "quota"]),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A bundled spec in which values are replaced, added or removed, as YAML or JSON."""
    data = json.loads(json.dumps(draw(st.sampled_from(DATA)), default=str))
    for _ in range(draw(st.integers(1, 4))):
        section: Any = data
        while isinstance(section, dict) and section:
            key = draw(st.sampled_from([*section, "new"]))
            inner = section.get(key)
            if key in section and isinstance(inner, dict | list) and inner and draw(st.booleans()):
                section = inner
                continue
            if key == "new":
                section[draw(st.sampled_from(NAMES))] = draw(values)
            elif draw(st.integers(0, 4)):
                section[key] = draw(values)
            else:
                del section[key]
            break
        else:
            if isinstance(section, list) and section:
                section[draw(st.integers(0, len(section) - 1))] = draw(values)
    return json.dumps(data) if draw(st.booleans()) else str(yaml.safe_dump(data))


@st.composite
def edited(draw: st.DrawFn) -> str:
    """The text of a bundled spec with characters of YAML inserted, removed and repeated."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(text)))
        put = draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:at] + put + text[at + draw(st.integers(0, 20)) :]
    return text


files = st.one_of(
    mutated().map(lambda text: text.encode("utf-8", "surrogatepass")),
    edited().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text().map(lambda text: (GOOD + text).encode("utf-8", "surrogatepass")),
    st.binary(max_size=200),
)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(".".join) | st.text(max_size=6)
options = st.one_of(
    st.builds("{}={}".format, paths, st.text(max_size=12)),
    st.builds(lambda path, value: f"{path}={json.dumps(value)}", paths, values),
    st.text(max_size=12),
)


def check(errors: Sequence[Problem]) -> None:
    """Every mistake is a sentence, and none is the last resort of the loader."""
    assert errors
    for error in errors:
        assert error.message.strip()
        assert UNEXPECTED not in error.message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for specs."""
    return tmp_path_factory.mktemp("specs")


@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(data=files, overrides=st.lists(options, max_size=2), budget=st.lists(st.text(max_size=8), max_size=1))
def test_only_errors_of_ours_leave_the_loader(
    folder: Path, data: bytes, overrides: list[str], budget: list[str]
) -> None:
    """Of any bytes in the file and any text in the options; an accepted spec is accepted again as plain data."""
    path = folder / "fuzzed.yaml"
    path.write_bytes(data)
    try:
        loaded = load_spec(path, overrides=overrides, budget=budget)
    except SpecError as error:
        check(error.errors)
    except AutosparseError as error:
        check([Problem(error.message)])
    else:
        take_spec(json.loads(json.dumps(loaded.spec.model_dump(mode="json"))), "again")


def test_hostile_specs_are_refused_in_sentences(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of more than two hundred, with its file, in one command that ends with 2."""
    specs = hostile_specs()
    for number, text in enumerate(specs.values()):
        name = "hostile.yaml" if "extends: hostile" in text else f"{number}.yaml"
        (here.folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    names = sorted(path.name for path in here.folder.glob("*.yaml") if path.name != "small.yaml")
    ended = call(capsys, f"validate {' '.join(names)} --json")
    errors = ended.json["errors"]
    refused = {error["file"] for error in errors}

    assert 2 == ended.code
    assert 200 <= len(names)
    assert [] == ended.json["valid"]
    assert [*names] == sorted(refused & {*names})
    assert not [error for error in errors if UNEXPECTED in error["message"] or "\n" in error["message"]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (f"{'.'.join('a' * 1000)}=1", "the path has more than 64 keys"),
        (f"training.lr={'[' * 1000}", "nested more than 64 deep"),
        (f"budget=0x{'f' * 290}", "is too large"),
        (f"seeds={'9' * 5000}", "is too large"),
        ("store=~nosuchuser/x", "cannot be found"),
        ("training.lr=\udcff", "not UTF-8"),
        ("=", "must be `path.to.key=value`"),
        ("study..a=[1]", "must be `path.to.key=value`"),
        ("model=~nosuchuser/net.py:build", "cannot be found"),
    ],
)
def test_hostile_options_are_refused(folder: Path, option: str, message: str) -> None:
    """As those of a file are, whatever a shell passes."""
    path = folder / "good.yaml"
    path.write_text(GOOD)
    with pytest.raises(AutosparseError, match=message) as caught:
        load_spec(path, overrides=[option])

    assert 2 == caught.value.exit_code


@pytest.mark.parametrize("text", ["[" * 1000, "0x" + "f" * 290, "\udcff", "a: {", "1" * 10_000])
def test_hostile_lists_of_a_study_are_refused(text: str) -> None:
    """A value of `--vary` is read as one of a spec is."""
    with pytest.raises(AutosparseError) as caught:
        parse_list(text, "--vary x")

    assert UNEXPECTED not in caught.value.message


def test_thousands_of_bases_are_refused(folder: Path) -> None:
    """The reader stops after 64, long before Python's own limit."""
    for number in range(3000):
        (folder / f"base{number}.yaml").write_text(f"extends: base{number + 1}.yaml\n")
    with pytest.raises(SpecError, match="more than 64 files"):
        load_spec(folder / "base0.yaml")


def test_a_base_that_links_to_itself_is_refused(folder: Path) -> None:
    """Python has no path for it."""
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "linked.yaml").write_text(f"{GOOD}extends: loop.yaml\n")
    with pytest.raises(SpecError, match=r"linked.yaml:3:10: `extends` names loop.yaml, which cannot be a path"):
        load_spec(folder / "linked.yaml")
