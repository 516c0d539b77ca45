"""Errors of foreign code in one line."""

from __future__ import annotations

import sys

import pytest

from autosparse.borders import first_line, in_short
from autosparse.foreign_code import printing_to_stderr


@pytest.mark.parametrize(
    ("message", "line"),
    [("\x1b[96mstep 3\x1b[0m failed\nmore", "step 3 failed"), ("\n  plain  \n", "plain"), ("", "")],
)
def test_the_first_line_has_no_colours(message: str, line: str) -> None:
    """Exporters of torch write escape sequences for a terminal."""
    assert line == first_line(ValueError(message))


def test_an_error_without_a_message_has_its_type() -> None:
    """The type comes first in any case."""
    assert ["KeyError", "ValueError: odd"] == [in_short(KeyError()), in_short(ValueError("odd"))]


def test_output_of_foreign_code_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Code that closes its stdout closes neither of the program's streams."""
    with printing_to_stderr():
        sys.stdout.write("theirs\n")
        sys.stdout.close()
    sys.stdout.write("ours\n")

    assert ("ours\n", "theirs\n") == tuple(capsys.readouterr())
