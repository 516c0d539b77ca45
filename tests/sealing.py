"""Edits of sealed files that a digest of their content cannot show, and changes that it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autosparse.store.sealed import SEAL, seal, unseal


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a sealed file, and seal it again."""
    path.write_bytes(seal(change(unseal(path.read_bytes()))))


def replace_text(path: Path, old: str, new: str) -> None:
    """Replace a text in a sealed file, and seal it again."""
    text = path.read_text(encoding="utf-8")
    assert old in text, old
    path.write_bytes(seal({name: value for name, value in json.loads(text.replace(old, new)).items() if name != SEAL}))


def flips(data: bytes, step: int) -> Iterator[bytes]:
    """Yield the data with one flipped bit, at every `step`-th byte."""
    for at in range(0, len(data), step):
        yield data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
