"""An empty store."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "cache")
