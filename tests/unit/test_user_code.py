"""The identity of own code: its syntax tree, in every release of Python."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from autosparse.errors import OwnCodeError
from autosparse.user_code import sources

CODE = '''\
"""Networks."""
import numbers

def build(shape, classes, *, width=1, name="a"):
    """Build."""
    first = f"{{{width!r:>{classes}}}} {width=} " "end"
    second = [width, True, 1.0, b"a", None, *shape]
    return first, second
'''
EVERY = Path(__file__).parents[1] / "fixtures" / "every_syntax.txt"


def identity(folder: Path, code: str | bytes) -> str:
    """The digest of a module."""
    (folder / "nets.py").write_bytes(code.encode() if isinstance(code, str) else code)
    return sources(f"{folder / 'nets.py'}:build")["nets.py"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import numbers\n", "import numbers  # a comment\n\n\n# another: ünïcode\n"),
        ("    first", "\n    # first\n    first"),
        ("[width, True", "[\n        width,\n        (True)"),
        ('name="a"', "name='a',"),
        ('"end"', "'en'    'd'"),
        ("\n", "\r\n"),
        ("    ", "\t"),
        ("", "# -*- coding: utf-8 -*-\n"),
        ("1.0", "1e0"),
        ("width=1,", "width=0x1,"),
    ],
)
def test_layout_costs_nothing(tmp_path: Path, old: str, new: str) -> None:
    """Comments, blank lines, line endings, quotes and parentheses are not part of the identity of code."""
    changed = CODE.replace(old, new) if old else new + CODE

    assert changed != CODE
    assert identity(tmp_path, CODE) == identity(tmp_path, changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("width=1", "width=2"),
        ("width=1", "width=1.0"),
        ("width=1", "width=True"),
        ("1.0", "-1.0"),
        ('b"a"', '"a"'),
        ("None", "..."),
        ("None", '"None"'),
        ("None", "0"),
        ("*shape]", "shape]"),
        ("*shape]", "*shape],"),
        ("True, 1.0", "1.0, True"),
        ("numbers", "numbers as n"),
        ("!r", "!s"),
        ("first, second", "second, first"),
        ("first =", "first: str ="),
        ("width, True", "(width, True)"),
        ('"""Build."""', '"""Build it."""'),
        ('    """Build."""\n', ""),
        ("def build", "async def build"),
        ("classes}}}}", "shape}}}}"),
        ("{width=}", "{width }"),
        (" second = [", " first = ["),
    ],
)
def test_meaning_counts(tmp_path: Path, old: str, new: str) -> None:
    """A changed name, constant, type of a constant, order or docstring is other code."""
    assert CODE.replace(old, new) != CODE
    assert identity(tmp_path, CODE) != identity(tmp_path, CODE.replace(old, new))


def test_the_identity_is_that_of_every_python(tmp_path: Path) -> None:
    """One digest from Python 3.11 on: if it moves, users of own code run everything again."""
    assert "1b32c986482946b6c98cf996f3ac0507ebca0dc538a348f830f797e18b3c97b9" == identity(tmp_path, EVERY.read_bytes())


def test_code_of_any_depth_and_size_has_an_identity(tmp_path: Path) -> None:
    """Neither a long sum nor a number of many digits ends the program."""
    code = f"x = {' + '.join(['1'] * 2000)}\ny = 0x{'f' * 10000}\n"

    assert identity(tmp_path, code) != identity(tmp_path, code.replace("ff\n", "fe\n"))


@pytest.mark.parametrize("deep", ["x = " + "-" * 20000 + "1\n", "x = a" + ".b" * 100000 + "\n"])
def test_code_too_deep_for_python(tmp_path: Path, deep: str) -> None:
    """An expression beyond the limits of the parser is one line with the file."""
    with pytest.raises(OwnCodeError, match=r"nets.py: `nets.py:build` is nested too deeply for Python"):
        identity(tmp_path, deep)


def test_warnings_of_the_parser_are_not_shown(tmp_path: Path) -> None:
    """They would name no file; importing the code shows them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        identity(tmp_path, "x = '\\d' is 1\n")

    assert [] == caught
