"""A step of a plan: what runs, on what, under which key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autosparse.store import key_of

PURPOSES = {
    "source": "source of labels",
    "scorer": "scorer",
    "network": "this network",
    "comparison": "comparison",
    "emission": "emission",
    "sanity": "sanity checks",
}
"""What steps are for -> what people read."""


@dataclass(frozen=True)
class Step:
    """One operation with all its options and inputs.

    `inputs` is role -> step name. `access` is what a step needs but no key knows (paths, downloads);
    `purpose` groups steps
    for reading: one of `PURPOSES`.
    """

    name: str
    operation: str
    version: int
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    key: str
    purpose: str
    access: Mapping[str, Any] = field(default_factory=dict)


def step_key(operation: str, version: int, options: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The identity of an artifact: sha256 of operation, version, every option, and the keys of the inputs."""
    return key_of(operation, version, options, dict(inputs))
