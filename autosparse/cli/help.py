"""Help texts: whole summaries, groups of options, plain metavars, and an example for every command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from autosparse.errors import UsageError
from autosparse.registry import nearest, suggestion

_TASKS = {
    "Start": ("init", "validate", "list", "doctor", "schema", "render"),
    "Run": ("plan", "run", "study", "bench"),
    "Look": ("report", "runs", "compare", "inspect"),
    "Share": ("export", "cache"),
}
_MANY = 8
"""Number of options above which help shows them in groups."""
_SUMMARY = 200
"""Characters of a summary that help shows: all of any."""

SPEC, STEPS, OUTPUT = "Spec", "Steps", "Output"
"""Groups of options that several commands share."""


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: lines that run it."""
    return "\n".join(f"autosparse {line}" for line in lines)


class Command(TyperCommand):
    """Command whose help groups many options and ends with examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, and options by group."""
        _write_parameters(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, never wrapped."""
        _write_examples(self.epilog, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line."""
        return _usage(self, ctx)


class Group(TyperGroup):
    """Command with subcommands, whose help shows whole summaries and ends with examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then the commands."""
        _write_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, unabridged."""
        self._write_commands("Commands", tuple(self.commands), formatter)

    def _write_commands(self, title: str, names: tuple[str, ...], formatter: Any) -> None:
        with formatter.section(title):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=_SUMMARY)) for name in names])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, never wrapped."""
        _write_examples(self.epilog, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name. Raises UsageError for an unknown one."""
        name, known = args[0], [*self.commands]
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            hint = suggestion(name, known) or f"run `{ctx.command_path} --help`"
            raise UsageError(f"there is no command `{ctx.command_path} {name}`", hint)
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line."""
        command = "[COMMAND]" if self.invoke_without_command else "COMMAND"
        return [*_usage(self, ctx), command, "[ARGS]..."]


class Program(Group):
    """All commands, listed by task."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by task."""
        for task, names in _TASKS.items():
            self._write_commands(task, names, formatter)


def misuse(error: Any, arguments: Sequence[str]) -> tuple[str, str]:
    """Return typer's error about an argument or option as a sentence and its remedy."""
    path = error.ctx.command_path if error.ctx else " ".join(["autosparse", *arguments[:1]])
    hint, text = f"run `{path} --help`", error.message.removeprefix("Value error, ").rstrip(".")
    parameter, possible = getattr(error, "param", None), getattr(error, "possibilities", None)
    if error.format_message().startswith("Missing") and parameter:
        return f"`{path}` needs {_name(parameter) if _is_argument(parameter) else parameter.opts[0]}", hint
    if option := getattr(error, "option_name", None):
        known = [name for one in error.ctx.command.params for name in one.opts] if error.ctx else [*(possible or ())]
        if text.startswith("No such option"):
            near = nearest(option.lstrip("-"), [name.lstrip("-") for name in known])  # all begin with `--`
            named = next((name for name in known if name.lstrip("-") == near), None)
            return f"`{path}` has no option `{option}`", f"did you mean `{named}`?" if named else hint
    if extra := re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", text):
        return f"`{path}` takes no more arguments, but {extra[1]!r} is given", hint
    text = re.sub("Input should be a valid integer.*", "must be a whole number", text)
    text = re.sub("^Input should be greater than or equal to", "must be at least", text)
    text = re.sub("^'.*' is not one of", "must be one of", text)
    text = re.sub("'([^']*)'", r"`\1`", text[:1].lower() + text[1:])
    if parameter is not None and not _is_argument(parameter):
        return f"`{_written(parameter.opts, arguments)}` {text}", hint
    return text, hint


def _written(names: Sequence[str], arguments: Sequence[str]) -> str:
    # The option with its value, as the user has written it.
    for number, argument in enumerate(arguments):
        if argument.partition("=")[0] in names:
            return argument if "=" in argument else " ".join(arguments[number : number + 2])
    return names[0]


def _usage(command: Any, ctx: Any) -> list[str]:
    pieces = [_name(one) if one.required else f"[{_name(one)}]" for one in command.get_params(ctx) if _is_argument(one)]
    return ["[OPTIONS]", *pieces]


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    records = [(one, record) for one in command.get_params(ctx) if (record := one.get_help_record(ctx))]
    # typer adds the type to the name of an argument, and that it is required, which the usage line shows.
    arguments = [
        (_name(one), text.removesuffix("[required]").rstrip()) for one, (_, text) in records if _is_argument(one)
    ]
    options = [(one, record) for one, record in records if not _is_argument(one)]
    groups: dict[str, list[tuple[str, str]]] = {}
    for one, record in options:
        group = getattr(one, "rich_help_panel", None) if len(options) > _MANY else None
        groups.setdefault(group or "", []).append(record)
    rest = groups.pop("", [])
    for title, rows in (("Arguments", arguments), *groups.items(), ("Options", rest)):
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _write_examples(epilog: str | None, formatter: Any) -> None:
    if epilog:
        lines = epilog.splitlines()
        with formatter.section("Example" if len(lines) == 1 else "Examples"):
            for line in lines:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
