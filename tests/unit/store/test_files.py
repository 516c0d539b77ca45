"""Equal values have one text and one digest, on every machine and in every process."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.store import canonical, digest
from autosparse.store.files import drafted, link_new

TEXT = st.text(max_size=10)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.0, None, True]}, '{"a":[1.0,null,true],"b":1}'),
        ((1, (2,)), "[1,[2]]"),
        ("é\n", '"é\\n"'),
        ({}, "{}"),
        (1e-3, "0.001"),
        (1e300, "1e+300"),
    ],
)
def test_the_text_of_a_value(value: Any, text: str) -> None:
    """Keys are sorted, nothing is padded, letters are themselves, tuples are lists."""
    assert text == canonical(value)


def test_the_digest_is_of_the_text_in_utf_8() -> None:
    """The content of keys can be recomputed with any sha256 tool."""
    assert "2071e5952e3110d79f01f374bf90abe7fc01cf116fd0a40af0ab60d3f9a99f8d" == digest({"b": "é", "a": [1, 2.5]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}], ids=str)
def test_numbers_that_are_not_finite_have_no_text(value: Any) -> None:
    """A value that JSON does not know cannot enter a key."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(value)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object()], ids=lambda value: type(value).__name__)
def test_objects_have_no_text(value: Any) -> None:
    """Nothing is turned into a text by guesswork."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical(value)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), ("1", 1), ([], {}), (None, "")], ids=str)
def test_values_of_different_types_differ(one: Any, other: Any) -> None:
    """Values that only Python treats as equal have different digests: types are settled when a spec is read."""
    assert digest(one) != digest(other)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON)
def test_the_text_is_json_for_the_value(value: Any) -> None:
    """The text reads back as the value, and as the same text."""
    text = canonical(value)

    assert value == json.loads(text)
    assert text == canonical(json.loads(text))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(TEXT, JSON, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter(value: dict[str, Any], random: Any) -> None:
    """Mappings with the same entries have the same digest, in whatever order they were made."""
    items = list(value.items())
    random.shuffle(items)

    assert digest(value) == digest(dict(items))


@pytest.fixture(params=[errno.EPERM, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, by several names of it."""

    def link(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_links")
def test_without_links_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never read, and an existing file stays."""
    path = tmp_path / "large.zip"
    monkeypatch.setattr(Path, "read_bytes", None)
    with drafted(path, link_new) as draft:
        draft.write_text("one")
    with pytest.raises(FileExistsError), drafted(path, link_new) as draft:
        draft.write_text("two")

    assert "one" == path.read_text()
    assert [path] == [*tmp_path.iterdir()]


@pytest.mark.usefixtures("no_links")
def test_a_failed_rename_frees_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No empty file stays."""

    def replace(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"), drafted(tmp_path / "a.zip", link_new) as draft:
        draft.write_text("one")

    assert [] == [*tmp_path.iterdir()]
