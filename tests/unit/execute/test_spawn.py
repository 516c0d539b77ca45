"""Processes of a run import autosparse alone."""

from __future__ import annotations

import sys
from multiprocessing.spawn import get_preparation_data

from autosparse.execute.spawn import _without_main


def test_the_main_module_is_hidden_and_comes_back() -> None:
    """Python prepares no main module in the new process, and the caller's is as it was."""
    main = sys.modules["__main__"]
    before = main.__spec__, getattr(main, "__file__", None)
    with _without_main():
        prepared = get_preparation_data("worker")

    assert not {"init_main_from_name", "init_main_from_path"} & prepared.keys()
    assert before == (main.__spec__, getattr(main, "__file__", None))
