"""docs/reference/cli.md and exit_codes.md, generated from the commands and from the tree of errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from autosparse import errors
from autosparse.cli.app import app
from autosparse.text import table

BEGIN = """\
<!-- `python -m tests.docs.reference` writes this page. -->

# Commands

`autosparse COMMAND --help` (`-h`) prints the same texts. A command without SPEC uses, in this order:

1. `AUTOSPARSE_SPEC`,
2. the spec last used in this directory,
3. `autosparse.yaml` here or in a parent directory,
4. the bundled digits spec.

It prints its choice and the reason on stderr.

Results go to stdout, as one JSON document under `--json` ([schemas](json.md)). Notes, progress and errors go to stderr.
[Exit codes](exit_codes.md) are the same for all commands. `autosparse --install-completion` completes commands, specs,
runs, steps and the paths of `--set` in your shell.

[Files and screens](screens.md) shows examples of the output.
"""
CODES = """\
<!-- `python -m tests.docs.reference` writes this page. -->

# Exit codes

| code | meaning |
| --- | --- |
| 0 | success |
| 1 | a step failed; other steps finished and are in the report, and the same command runs the failed ones again |
| 2 | the command, the spec or your code that it names is invalid |
| 3 | the plan does not fit `target` |
| 4 | an artifact or an exported model is damaged |
| 5 | this machine lacks data, an extra, a device (2 for a saved plan), or room for a file |
| 6 | another process holds a resource, and `--no-wait` does not wait for it |
| 70 | an internal error: a bug of autosparse, to be reported |
| 130 | interrupted by Ctrl-C |
| 143 | terminated by SIGTERM |

After 130, 143, `kill -9` or a failure, the same command resumes with the next step.

`autosparse plan --detailed-exitcode` uses other codes, for scripts: 0 if nothing is to run, 2 if something is, and 1
on any error. `autosparse doctor` exits with 1 if its self-test fails.

## Errors in Python

Every error of autosparse derives from `autosparse.AutosparseError`. It has a `message`, a `hint` and an `exit_code`.
"""


def cli_page() -> str:
    """Return the page of all commands, in the order of `autosparse --help`."""
    command = typer.main.get_command(app)
    context: Any = command.context_class(command, info_name="autosparse")
    return "\n".join([BEGIN, *_section(command, context, 2)]).rstrip() + "\n"


def codes_page() -> str:
    """Return the page of exit codes, with the class of every error."""
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.AutosparseError)]
    rows = [
        (f"{'&nbsp;' * 4 * (len(one.__mro__) - 4)}`{one.__name__}`", str(one.exit_code), _first_sentence(one))
        for one in sorted(classes, key=lambda one: [part.__name__ for part in reversed(one.__mro__)])
    ]
    return "\n".join([CODES, table(("class", "exit code", "meaning"), rows)]) + "\n"


def _section(command: Any, context: Any, depth: int) -> Iterator[str]:
    nested = getattr(command, "commands", {})
    yield from (f"{'#' * depth} `{context.command_path}`", "", _text(command.help), "")
    yield from ("```text", command.get_usage(context).removeprefix("Usage: "), "```", "")
    parameters = [one for one in command.get_params(context) if one.name != "help" and one.get_help_record(context)]
    for kind, title in (("argument", "argument"), ("option", "option")):
        rows = [_row(*one.get_help_record(context)) for one in parameters if one.param_type_name == kind]
        if rows:
            filled = [column for column in range(3) if column != 1 or any(row[1] for row in rows)]
            titles = (title, "default", "description")
            yield from (table([titles[c] for c in filled], [[row[c] for c in filled] for row in rows]), "")
    if command.epilog:
        yield from ("```text", command.epilog, "```", "")  # no `sh`: commands of such blocks are run
    for name in _names(command, nested):
        inner = nested[name]
        yield from _section(inner, inner.context_class(inner, info_name=name, parent=context), depth + (depth > 2) or 3)


def _names(command: Any, nested: Any) -> list[str]:
    # In the order of the help, which groups commands by task.
    shown = re.findall(r"^  (\w[\w-]*)  ", command.get_help(command.context_class(command)), re.MULTILINE)
    return [*[name for name in shown if name in nested], *[name for name in nested if name not in shown]]


def _row(declaration: str, text: str) -> tuple[str, str, str]:
    default = re.search(r"\s*\[(?:default: ([^\];]*))?;? ?([^\]]*)\]$", text)
    note = default[2].strip() if default else ""
    described = _text(text[: default.start()] if default else text)
    value = (default[1] or "").strip() if default else ""
    names = re.sub(r" <.*>$", "", declaration)  # click appends the type to arguments
    return (
        f"`{names.replace('|', ' or ')}`",
        f"`{value}`" if value else "",
        f"{described} ({note})" if note else described,
    )


def _text(text: str | None) -> str:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(text or ""))]
    return "\n\n".join(paragraphs).replace("|", "\\|")


def _first_sentence(kind: type) -> str:
    return _text(kind.__doc__).partition("\n")[0].rstrip(".")
