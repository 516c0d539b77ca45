"""Application object and shared parts of all commands: finding the spec, printing, handling signals."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from autosparse.api.runs.prepare import fit_spec
from autosparse.backends import this_machine
from autosparse.cli.help import Program, examples
from autosparse.console.format import notes, plain, show_text
from autosparse.cost.fitted import Fitted
from autosparse.errors import MissingRequirement, Terminated, UsageError, shortened
from autosparse.packaged import __version__
from autosparse.planning.saved import check_unmoved, read_plan, spec_of
from autosparse.registry import suggestion
from autosparse.spec import LoadedSpec, find_spec, load_spec, remember_spec
from autosparse.store import Index, Store, open_index
from autosparse.text import escaped, finite, shell_word

app = typer.Typer(
    name="autosparse",
    cls=Program,
    help="Plan and run the pruning of neural networks at initialization, from a YAML spec.",
    epilog=examples("run", "init my.yaml", "plan my.yaml"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        show_text(f"autosparse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Parse the options of every command."""


@dataclass(frozen=True)
class SpecRequest:
    """Spec that a command names, with the changes of its options."""

    name: str | None
    budget: Sequence[str] | None = None
    overrides: Sequence[str] | None = None
    quiet: bool = False
    refit: bool = False
    folder: Path | None = None
    """run folder, where the command names one"""


def load(request: SpecRequest, store: Store, *, remember: bool = True) -> LoadedSpec:
    """Find, read and remember the spec of a command; print its name if the user gave none."""
    chosen = find_spec(request.name, store)
    refuse_plan(chosen.path)
    if chosen.why and not request.quiet:
        say(f"spec {chosen.path}: {chosen.why}")
    loaded = load_spec(chosen.path, overrides=request.overrides or (), budget=request.budget or ())
    if remember and request.name is not None:  # do not remember an unnamed spec: it is found the same way next time
        try:
            remember_spec(chosen.path, store)
        except MissingRequirement as error:
            say(f"note: the next command will not know this spec: {error.message}")
    return loaded


def fit_loaded(
    loaded: LoadedSpec,
    store: Store,
    index: Index,
    *,
    quiet: bool,
    refit: bool = False,
    timed: bool = True,
    folder: Path | None = None,
) -> Fitted:
    """Return the plan of a spec, priced and fitted to this machine; print notes and warnings about it."""
    return fit_spec(loaded, store, index, quietly if quiet else say, refit=refit, timed=timed, folder=folder)


def prepare(request: SpecRequest, store: Store) -> tuple[LoadedSpec, Fitted, Index]:
    """Return the spec, its fitted plan and the index of the store. Raises UsageError if a saved plan has changed."""
    path = Path(request.name) if request.name is not None else None
    saved = read_plan(path) if path else None
    index = open_index(store)
    if path is None or saved is None:
        loaded = load(request, store)
        fitted = fit_loaded(loaded, store, index, quiet=request.quiet, refit=request.refit, folder=request.folder)
        return loaded, fitted, index
    options = {"--budget": request.budget, "--set": request.overrides, "--refit": request.refit}
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"a saved plan is run as it is: {path} takes no `{given[0]}`", "plan its spec again with it")
    loaded = spec_of(saved, path)
    fitted = fit_loaded(loaded, store, index, quiet=request.quiet, timed=False, folder=request.folder)
    check_unmoved(saved, path, fitted.plan, fitted.statuses, this_machine())
    return loaded, fitted, index


def refuse_plan(path: Path) -> None:
    """Raise UsageError for a saved plan where a command needs a spec."""
    if read_plan(path):
        raise UsageError(f"{path} is a saved plan, not a spec", f"`autosparse run {shell_word(path)}` runs it")


class Stop:
    """Handler of SIGINT and SIGTERM: raises KeyboardInterrupt and Terminated, and remembers the signal.

    Libraries replace the exception: pydantic raises a SchemaError where Ctrl-C interrupts the building of a model.
    """

    def __init__(self) -> None:
        self.code = 0

    def watch(self) -> None:
        """Handle the signals from now on, except those that the parent process ignores, as `nohup` does."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Stop the command."""
        self.code = 128 + number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


@contextmanager
def exit_on_interrupt(text: Callable[[], str], *, quiet: bool) -> Iterator[None]:
    """Exit with code 130 on Ctrl-C and 143 on SIGTERM, after printing the text."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as reason:
        if not quiet:
            say(text())
        raise SystemExit(130 if isinstance(reason, KeyboardInterrupt) else 143) from None


def check_known(name: str, known: Collection[str], message: str, listed: str) -> None:
    """Raise UsageError for an unknown name; its hint suggests the nearest, else lists all as `listed`."""
    if name not in known:
        raise UsageError(message, suggestion(name, [*known]) or f"{listed}: {', '.join(known)}")


def show_json(value: Any) -> None:
    """Print a JSON document; a number that is not finite is null."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    typer.echo(escaped(json.dumps(finite(value), indent=1, ensure_ascii=not unicode)))


def quietly(text: str) -> None:
    """Print nothing."""


def say(text: str) -> None:
    """Print a note on stderr, never wrapped."""
    for line in text.splitlines():
        notes().print(plain(shortened(line)), soft_wrap=True)


class _Warnings(logging.Handler):
    """Handler that prints what the library logs, such as a damaged file of the cache, without repeating itself."""

    _last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text != self._last:
            say(f"warning: {text}")
        self._last = text


logging.getLogger("autosparse").addHandler(_Warnings(logging.WARNING))


def say_error(message: str, hint: str | None) -> None:
    """Print an error on stderr, and its remedy on the next line."""
    for label, style, text in (("error", "bold red", message), ("hint", "cyan", hint)):
        if text:
            first, *others = shortened(text).splitlines()
            notes().print(plain("").append(f"{label}: ", style).append_text(plain(first)), soft_wrap=True)
            say("\n".join(others))
