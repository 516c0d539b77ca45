"""Tags of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Workspace, call

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"


def test_a_run_is_tagged_as_it_begins(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one that is no run: nothing is left to tag."""
    ended = call(capsys, "run small.yaml --only data/digits --tag early")

    assert 2 == ended.code
    assert "there is no report to tag" in ended.err
