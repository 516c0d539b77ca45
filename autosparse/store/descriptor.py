"""Descriptor of an artifact, `artifact.json`: one definition of its fields, for local, shared and foreign ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from autosparse.errors import DamagedArtifact
from autosparse.store.files import key_of
from autosparse.store.sealed import unseal

DESCRIPTOR = "artifact.json"
EMPTY: Mapping[str, Any] = {
    "step": "", "spec": "", "version": 0, "options": {}, "inputs": {}, "consumed": {}, "environment": {},
}  # fmt: skip
"""Fields of an artifact without provenance."""
_SHA256 = r"[0-9a-f]{64}"  # also the form of keys
_OPERATION = r"[a-z][a-z0-9_]*"
_DEEPEST = 50  # levels of lists and mappings
_LARGEST = 2**63  # bytes


def _file_name(name: str) -> str:
    # Within one folder: never a path out of it.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name == DESCRIPTOR:
        raise ValueError("an odd name of a file")
    return name


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Size = Annotated[int, Field(ge=0, lt=_LARGEST)]
_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Part):
    sha256: Annotated[str, Field(pattern=rf"^{_SHA256}$")]
    bytes: _Size


class _Work(_Part):
    kind: str
    amount: _Number
    held: str


class _Descriptor(_Part):
    operation: Annotated[str, Field(pattern=rf"^{_OPERATION}$")]
    key: str
    files: dict[Annotated[str, AfterValidator(_file_name)], _File]
    step: str
    spec: str
    version: Annotated[int, Field(ge=0)]
    options: dict[str, Any]
    inputs: dict[str, str]
    consumed: dict[str, str]
    environment: dict[str, str | int | float | bool | None]
    peak_bytes: _Size | None = None
    work: _Work | None = None
    seconds: _Number = 0.0
    idle_seconds: _Number = 0.0
    created: Annotated[str, AfterValidator(_time)] = ""


def read_descriptor(data: bytes, operation: str, key: str) -> dict[str, Any]:
    """Return the descriptor of an artifact.

    Args:
        data: Bytes of `artifact.json`.
        operation: Operation of the artifact.
        key: Key of the artifact.

    Returns:
        The descriptor.

    Raises:
        DamagedArtifact: If the bytes have changed, hold a field of a wrong type, or describe another artifact.
    """
    try:
        descriptor = _parse(data)
    except ValueError as error:
        raise DamagedArtifact(key, str(error)) from error
    if (descriptor["operation"], descriptor["key"]) != (operation, key):
        raise DamagedArtifact(key, "it describes another artifact")
    return descriptor


def read_foreign(data: bytes, operation: str, key: str) -> dict[str, Any]:
    """Return a descriptor that another machine published.

    Args:
        data: Bytes of `artifact.json`.
        operation: Operation of the artifact.
        key: Key of the artifact.

    Returns:
        The descriptor.

    Raises:
        DamagedArtifact: Unless operation and key match the content.
    """
    check_named(operation, key)
    descriptor = read_descriptor(data, operation, key)
    with suppress(ValueError):  # such as NaN
        if key == key_of(operation, descriptor["version"], descriptor["options"], descriptor["inputs"]):
            return descriptor
    raise DamagedArtifact(key, "its key is not that of what it says it was made from")


def check_named(operation: str, key: str) -> None:
    """Check an operation and a key before they become folder names.

    Args:
        operation: Operation of an artifact.
        key: Key of an artifact.

    Raises:
        DamagedArtifact: If either is malformed.
    """
    if not re.fullmatch(_OPERATION, operation) or not re.fullmatch(_SHA256, key):
        raise DamagedArtifact(key, f"no artifact is called {operation!r}, {key!r}")


def descriptor_path(operation: str, key: str) -> str:
    """Return the path of a descriptor within a shared store.

    Args:
        operation: Operation of the artifact.
        key: Key of the artifact.

    Returns:
        Path, separated by slashes.
    """
    return f"artifacts/{operation}/{key}.json"


def file_path(sha256: str) -> str:
    """Return the path of a file within a shared store.

    Args:
        sha256: Digest of its bytes, in hexadecimal.

    Returns:
        Path, separated by slashes.
    """
    return f"files/{sha256[:2]}/{sha256}"


def size_of(descriptor: Mapping[str, Any]) -> int:
    """Return the size of an artifact.

    Args:
        descriptor: Descriptor of the artifact.

    Returns:
        Size of all its files in bytes.
    """
    return sum(file["bytes"] for file in descriptor["files"].values())


def _parse(data: bytes) -> dict[str, Any]:
    descriptor = unseal(data)
    _check_depth(descriptor, _DEEPEST)
    try:
        _Descriptor.model_validate(descriptor)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
    return descriptor


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(f"it nests more than {_DEEPEST} levels")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
