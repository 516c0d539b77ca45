"""A sealed file shows every change of its content, and no other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autosparse.store.sealed import SEAL, seal, unseal
from tests.sealing import flips

VALUES: list[dict[str, Any]] = [
    {},
    {"b": [1, 2.5, -0.0, 1e-300], "a": {"é": None, "x": True}},
    {"of a folder": "caf\udce9", "pair": "\ud83d\ude00", "large": 2**70},
    {1: "a key that is no text", 10: "another", 2: "third"},  # type: ignore[dict-item]
]


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=["empty", "nested", "odd text", "number keys"])
def test_a_sealed_value_is_read_as_json_reads_it(value: dict[str, Any], compact: bool) -> None:
    """Whatever JSON makes of keys and texts, the digest is that of the value that a reader gets."""
    assert json.loads(json.dumps(value)) == unseal(seal(value, compact=compact))


def test_layout_is_not_content() -> None:
    """Another order of fields, other spaces or line ends, as of an editor or a checkout, are no change."""
    sealed = json.loads(seal(VALUES[1]))
    other = json.dumps(dict(reversed(sealed.items())), indent=3).replace("\n", "\r\n")

    assert VALUES[1] == unseal(other.encode())


@pytest.mark.parametrize("compact", [True, False])
def test_every_flipped_bit_is_noticed_or_harmless(compact: bool) -> None:
    """At every byte: names, values, signs, the digest itself."""
    data, noticed = seal({"parameters": 1210, "layers": [{"name": "a", "size": -1.5}]}, compact=compact), 0
    for flipped in flips(data, 1):
        try:
            assert unseal(data) == unseal(flipped)
        except ValueError:
            noticed += 1

    assert noticed > 0.8 * len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b"{}", b'{"a": 1}', b"[" * 100_000, b'{"a":' * 100_000,
        b"1" * 10_000, f'{{"{SEAL}": null}}'.encode(), f'{{"{SEAL}": {{}}}}'.encode(), f'{{"{SEAL}": ""}}'.encode(),
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_anything_else_is_an_error(data: bytes) -> None:
    """Of one class, whatever the parser makes of it."""
    with pytest.raises(ValueError, match=r"."):
        unseal(data)
