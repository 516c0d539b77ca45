"""Sealed JSON: objects that carry the sha256 of their content, so that no changed byte goes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "content_sha256"
"""Last field of a sealed object: the sha256 of the others, as JSON in ASCII with sorted keys and without spaces."""


def seal(value: Mapping[str, Any], *, compact: bool = False) -> bytes:
    """Return the JSON of an object with the digest of its content; `compact` is not for people, and read fastest."""
    value = json.loads(json.dumps({name: item for name, item in value.items() if name != SEAL}))  # as a reader sees it
    text = _canonical(value)
    stated = _sha256(text)
    if compact and value:
        return text[:-1] + _last(stated)
    shown = json.dumps({**value, SEAL: stated}, indent=1, ensure_ascii=False)
    return f"{shown}\n".encode("utf-8", errors="backslashreplace")  # names of files may be no valid text


def unseal(data: bytes) -> dict[str, Any]:
    """Return a sealed object without its digest. Raises ValueError for anything but unchanged content."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or not isinstance(stated := value.pop(SEAL, None), str):
            raise ValueError(f"it has no `{SEAL}`, the digest of its content")
        same = _sha256(data.removesuffix(_last(stated)) + b"}") == stated  # compact: no value is written again
        same = same or _sha256(_canonical(value)) == stated
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # whatever a parser raises, such as RecursionError
        raise ValueError(f"it is not JSON: {type(error).__name__}") from error
    if not same:
        raise ValueError(f"its content differs from its `{SEAL}`")
    return value


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _last(stated: str) -> bytes:
    return f',"{SEAL}":"{stated}"}}\n'.encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
