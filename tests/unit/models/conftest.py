"""Fixtures that the tests of the networks share with those of the science."""

from tests.unit.core.conftest import one_thread

__all__ = ["one_thread"]
