"""An empty store."""

from tests.unit.conftest import store

__all__ = ["store"]
