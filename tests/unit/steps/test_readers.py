"""The number of processes that read images from disk."""

from __future__ import annotations

import pytest

from autosparse.steps.context import disk_readers


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(16, None, 4), (2, None, 2), (16, 1000, 4), (16, 17, 2), (16, 3, 0)]
)
def test_readers_fit_cores_and_processes(cores: int, processes: int | None, expected: int) -> None:
    """Four at most, one a core, and none where hardly any process may start."""
    assert expected == disk_readers(cores, processes)
