"""Help of every command: readable at any width, with examples that parse."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
import typer.main

from autosparse.cli import main
from autosparse.cli.app import app

ROOT: Any = typer.main.get_command(app)


def tree(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command and group by its words."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from tree(inner, (*path, name))


COMMANDS = dict(tree(ROOT))
EXAMPLES = [(words, line) for words, command in COMMANDS.items() for line in (command.epilog or "").splitlines()]


def help_of(words: str) -> list[str]:
    """Return the lines of a command's help."""
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit) as caught:
        main([*words.split(), "--help"])
    assert 0 == caught.value.code
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words.replace(" ", "-") or "autosparse")
def test_help_is_readable(words: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line but an example is wider than the terminal; nothing is cut off, no type is shown, nothing is coloured."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = help_of(words)
    text = "\n".join(lines)
    begin = next(number for number, line in enumerate(lines) if line in ("Example:", "Examples:"))

    assert max(len(line) for line in lines[:begin]) <= width
    assert [f"  {line}" for line in COMMANDS[words].epilog.splitlines()] == lines[begin + 1 :]
    for noise in ("<", "\x1b", "[required]", "{"):
        assert noise not in " ".join(text.split()).replace("{name: compact, values: float16}", "")
    assert not [line for line in lines[1:] if line.endswith("...")]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words.replace(" ", "-") or "autosparse")
def test_every_parameter_has_help_and_a_metavar(words: str) -> None:
    """Arguments and options with values name them in capitals; many options are grouped."""
    parameters = [one for one in COMMANDS[words].params if not getattr(one, "hidden", False)]
    with_values = [one for one in parameters if not getattr(one, "is_flag", False)]
    options = [one for one in parameters if one.param_type_name == "option"]
    groups = {getattr(one, "rich_help_panel", None) for one in options if "--help" not in one.opts}

    assert [] == [one.name for one in parameters if not one.help]
    assert [] == [one.name for one in with_values if not one.metavar or one.metavar != one.metavar.upper()]
    assert len(options) < 8 or None not in groups


@pytest.mark.parametrize(("words", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_examples_parse(words: str, line: str) -> None:
    """Every example is of its command, and the command takes its arguments."""
    program, *arguments = shlex.split(line.partition(" > ")[0])
    command, known = ROOT, ""
    while arguments and arguments[0] in getattr(command, "commands", {}):
        known = f"{known} {arguments[0]}".strip()
        command = command.commands[arguments.pop(0)]

    assert "autosparse" == program
    assert known == words or known.startswith(f"{words} ") or not words
    assert command.make_context(known, arguments) is not None


def test_every_command_has_a_task() -> None:
    """`autosparse --help` lists every command once, with its whole summary."""
    text = " ".join(" ".join(help_of("")).split())

    for words, command in COMMANDS.items():
        if words and " " not in words:
            assert 1 == text.count(f" {words} {command.get_short_help_str(limit=300)}")
