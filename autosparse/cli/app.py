"""The application, and what its commands share: options, finding the spec, saying things."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from autosparse import __version__
from autosparse.backends import this_machine
from autosparse.console import notes, plain, show_text
from autosparse.errors import MissingRequirement, OwnCodeError, SpecError, UsageError
from autosparse.plan import Fitted, fit_plan, own_code
from autosparse.spec import LoadedSpec, find_spec, load_spec, remember_spec
from autosparse.store import Index, Store

app = typer.Typer(
    name="autosparse",
    help="Plan and run the pruning of neural networks at initialization, from a YAML spec.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpecArgument = Annotated[str | None, typer.Argument(metavar="[SPEC]", help="A spec file; without one, the last used.")]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help="Replace the spec's budget: 0.99, 99%, 100x, parameters=120k, macs=5M or bytes=500kB; repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set a value of the spec; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result and errors.")]

RefitOption = Annotated[bool, typer.Option("--refit", help="Choose anew what `target.time` lowers.")]


@app.callback(invoke_without_command=False)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Options of every command."""
    if version:
        show_text(f"autosparse {__version__}")
        raise typer.Exit


def load(
    name: str | None,
    store: Store,
    budget: list[str] | None,
    overrides: list[str] | None,
    *,
    quiet: bool,
    remember: bool = True,
) -> LoadedSpec:
    """Find, read and remember the spec that a command means, saying which one it is if it was not named."""
    found = find_spec(name, store)
    if found.why and not quiet:
        say(f"spec {found.path}: {found.why}")
    loaded = load_spec(found.path, overrides=overrides or (), budget=budget or ())
    if remember and name is not None:  # what was found without being named is found again
        try:
            remember_spec(found.path, store)
        except MissingRequirement as error:
            say(f"note: the next command will not know this spec: {error.message}")
    return loaded


def fit_loaded(loaded: LoadedSpec, store: Store, index: Index, *, quiet: bool, refit: bool = False) -> Fitted:
    """The plan of a spec, priced and fitted to this machine. Says which code of the user's own it imports."""
    for name in () if quiet else own_code(loaded.spec):
        say(f"note: importing your code, {name}")

    def told(text: str) -> None:
        if not quiet:
            say(f"note: {text}")

    try:
        return fit_plan(loaded.spec, this_machine(), loaded.name, store, index, told, refit=refit)
    except OwnCodeError:
        raise  # says itself where
    except UsageError as error:
        written = loaded.document.values
        place = error.at if error.at[:1] != ("irp",) or error.at in written else error.at[1:]  # as the spec's own
        if place[:1] in written and (mark := loaded.document.nearest(place)):
            raise SpecError(f"{mark}: {error.message}", error.hint) from error
        raise


def json_text(value: Any) -> str:
    """A JSON document as commands print it."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=1, ensure_ascii=not unicode)


def say(text: str) -> None:
    """Tell something that is not the result: on stderr, as it is written, never wrapped."""
    for line in text.splitlines():
        notes().print(plain(line), soft_wrap=True)
