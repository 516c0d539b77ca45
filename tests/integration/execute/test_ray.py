"""Ray as an extra."""

from __future__ import annotations

from typing import Any

import pytest

from autosparse.backends import ray
from autosparse.errors import MissingExtra
from tests.conftest import Workspace as Where
from tests.conftest import call

GIB = 2**30


def test_ray_is_an_extra(here: Where, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one sentence with the command; a plan needs none."""

    def missing() -> Any:
        raise MissingExtra("backend `ray` needs ray", "run `pip install 'autosparse[ray]'`")

    monkeypatch.setattr(ray, "_library", missing)
    planned = call(capsys, "plan small.yaml --set target.backend=ray")
    ended = call(capsys, "run small.yaml --set target.backend=ray")

    assert 0 == planned.code
    assert 5 == ended.code
    assert "autosparse[ray]" in ended.err
