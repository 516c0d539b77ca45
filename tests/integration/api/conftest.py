"""One thread and one seed, as for single calls of the interface."""

from tests.unit.api.conftest import one_thread, same_dropout

__all__ = ["one_thread", "same_dropout"]
