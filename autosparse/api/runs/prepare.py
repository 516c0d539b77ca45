"""Specs compiled, priced and fitted to this machine, for commands and the Python API."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autosparse.api.runs.auto_method import choose_method
from autosparse.backends import this_machine
from autosparse.cost.disk import check_disk
from autosparse.cost.fit import fit_plan
from autosparse.cost.fitted import Fitted, Shared, shared
from autosparse.errors import UsageError
from autosparse.planning.compile import named_user_code
from autosparse.planning.saved import read_plan
from autosparse.spec import LoadedSpec, Pretrained, Spec, find_spec, load_spec
from autosparse.spec.diagnostics import located
from autosparse.spec.overrides import BudgetOption
from autosparse.spec.reading import path_of
from autosparse.store import Index, Store, open_index
from autosparse.text import shell_word

SpecSource = str | os.PathLike[str] | Mapping[str, Any] | Spec | LoadedSpec
"""Spec in Python: a path or the name of a bundled spec, YAML text, plain data, a `Spec`, or a loaded spec."""
Say = Callable[[str], None]
"""Receiver of one-line messages that begin with `note:` or `warning:`."""


def fit_spec(
    loaded: LoadedSpec,
    store: Store,
    index: Index,
    say: Say,
    *,
    refit: bool = False,
    timed: bool = True,
    folder: Path | None = None,
) -> Fitted:
    """Return the plan of a spec, priced and fitted to this machine; `folder` is that of its run, if one is named."""

    def note(text: str) -> None:
        say(f"note: {text}")

    url = loaded.spec.store or os.environ.get("AUTOSPARSE_STORE")
    if url != store.url:  # variants of a spec share the cost model
        store.connect(url)
    note_user_code(loaded.spec, say)
    if unused := _unused_sections(loaded):
        names = " and ".join(f"`{name}`" for name in unused)
        note(f"{names} of the spec {'are' if len(unused) > 1 else 'is'} not used: its scorer is pretrained")
    with located(loaded.document):
        spec, why = choose_method(loaded.spec, this_machine(), loaded.name, store, refit=refit)
        if why:
            note(why)
        fitted = fit_plan(spec, this_machine(), loaded.name, store, index, note, refit=refit, timed=timed)
    fitted = check_disk(fitted, store, folder or Path())
    if store.problem:
        note(f"{store.problem.message}; {store.problem.hint}")
    for warning in fitted.plan.warnings:
        say(f"warning: {warning}")
    return fitted


def fit_source(
    spec: SpecSource,
    budget: BudgetOption | Sequence[BudgetOption] | None,
    overrides: Mapping[str, Any] | Sequence[str] | None,
    store: Store,
    say: Say,
    *,
    folder: Path | None = None,
) -> tuple[LoadedSpec, Fitted, Shared | None]:
    """Return a spec from any source, its fitted plan, and the cost of its IRPs that other specs share."""
    path = None if isinstance(spec, Spec | LoadedSpec) else path_of(spec)
    source: SpecSource = spec
    if path is not None:
        chosen = find_spec(os.fspath(path), store)
        source = chosen.path
        if chosen.why:
            say(f"{'note' if path.suffix == '' and path.parent == Path() else 'warning'}: {chosen.why}")
        if read_plan(source):
            raise UsageError(f"{path} is a saved plan, not a spec", f"`autosparse run {shell_word(path)}` runs it")
    loaded = load_spec(source, overrides=overrides, budget=budget)
    index = open_index(store)
    fitted = fit_spec(loaded, store, index, say, folder=folder)
    return loaded, fitted, shared(fitted.plan, store, index, fitted.price, loaded.identity)


def note_user_code(spec: Spec, say: Say) -> None:
    """Announce every file or module of user code that compiling a spec imports."""
    for name in named_user_code(spec):
        say(f"note: importing your code, {name}")


def _unused_sections(loaded: LoadedSpec) -> list[str]:
    # Sections on learning a scorer, in a spec with a pretrained scorer.
    if not isinstance(loaded.spec.scorer, Pretrained):
        return []
    sections = ("tuning",) if any(method.needs_rounds for method in loaded.spec.methods) else ("irp", "tuning")
    return [name for name in sections if (name,) in loaded.document.values]
