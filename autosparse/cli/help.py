"""Help texts: whole summaries, groups of options, plain metavars, and an example for every command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

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
