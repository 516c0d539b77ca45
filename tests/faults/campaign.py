"""Kinds of the campaign."""

from __future__ import annotations

from tests.faults.flips import flips
from tests.faults.hostile import contents
from tests.faults.kinds import Kind
from tests.faults.specs import specs
from tests.faults.stops import failures, kills
from tests.faults.user_code import misbehaviour

KINDS: dict[str, Kind] = {
    "kill": kills,
    "fault": failures,
    "flip": flips,
    "artifact": contents,
    "spec": specs,
    "code": misbehaviour,
}
"""Name of a kind -> function that yields its trials."""
