"""The empty cache and directory that tests of the datasets share."""

from tests.unit.datasets.conftest import cache

__all__ = ["cache"]
