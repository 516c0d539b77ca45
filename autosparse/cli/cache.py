"""Commands `cache ...`: artifacts shared by specs, on this machine and remotely."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from autosparse.api.runs.prepare import note_user_code
from autosparse.backends import this_machine
from autosparse.cli import options
from autosparse.cli.app import app, say, show_json
from autosparse.cli.help import Command, Group, examples
from autosparse.console.format import show_table, show_text
from autosparse.cost.time_limit import remembered_settings
from autosparse.errors import UsageError
from autosparse.planning.compile import compile_plan
from autosparse.spec import find_spec, load_spec, resolve, with_settings
from autosparse.spec.target import read_seconds
from autosparse.steps import check
from autosparse.store import Artifact, Remote, Store, collect, collect_remote
from autosparse.store.archive import write_archive
from autosparse.store.descriptor import size_of
from autosparse.store.files import check_room, drafted, link_new, sweep, writing
from autosparse.text import markdown, plural, size

cache = typer.Typer(
    cls=Group,
    help="List, verify, delete and share cached artifacts.",
    epilog=examples("cache ls", "cache gc --unused 30d --dry-run"),
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(cache, name="cache")

_SHARED = ("source", "scorer")  # steps that a group runs once: IRPs, labels, trials, scorers
_DAY = 86400.0  # seconds
_NOT_MADE = "not made yet"
_SHORTEST = 6  # hexadecimal digits of a key

WhatArgument = Annotated[
    list[str],
    options.specs_argument("Specs, or keys of artifacts; the first six digits of a key suffice.", "SPEC|KEY..."),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Include all steps of a spec, not only IRPs, their labels and the scorer.")
]


@cache.command("dir", cls=Command, epilog=examples("cache dir"))
def cache_dir() -> None:
    """Print the directory of the cache."""
    show_text(str(Store.default().root))


@cache.command("ls", cls=Command, epilog=examples("cache ls", "cache ls --json"))
def cache_ls(json_: options.Json = False) -> None:
    """List cached artifacts."""
    rows = [
        {
            "operation": artifact.descriptor["operation"],
            "key": artifact.key,
            "bytes": artifact.size,
            "seconds": artifact.descriptor.get("seconds"),
            "created": artifact.descriptor.get("created"),
        }
        for artifact in Store.default().artifacts()
    ]
    if json_:
        show_json({"schema_version": 1, "artifacts": rows})
    elif rows:
        show_table(
            ["operation", "key", "size", "seconds", "made"],
            [(r["operation"], r["key"][:12], size(r["bytes"]), r["seconds"], r["created"]) for r in rows],
        )
    else:
        say("the cache is empty")


@cache.command("verify", cls=Command, epilog=examples("cache verify"))
def cache_verify(json_: options.Json = False) -> None:
    """Verify every artifact by its digests and the form of its content, and every remembered value."""
    store = Store.default()
    artifacts, remembered = ([p for _, p in checked] for checked in (store.verify(check), store.verify_memory()))
    damaged = [*filter(None, artifacts), *filter(None, remembered)]
    if json_:
        counts = {"checked": len(artifacts), "remembered": len(remembered)}
        show_json({"schema_version": 1, **counts, "damaged": damaged})
    else:
        for problem in damaged:
            show_text(problem)
        sound = f"{artifacts.count(None)} of {len(artifacts)} artifacts"
        show_text(f"{sound} and {remembered.count(None)} of {len(remembered)} remembered values are sound")
    if any(artifacts):
        say("hint: the next run moves damaged artifacts away and rebuilds them")
    if any(remembered):
        say("hint: damaged values are ignored and computed again; `autosparse cache gc` deletes them")
    if damaged:
        raise typer.Exit(4)


@cache.command("gc", cls=Command, epilog=examples("cache gc --unused 30d --dry-run", "cache gc --unused 90d"))
def cache_gc(
    unused: Annotated[
        str, typer.Option(metavar="TIME", help="Delete artifacts unused for this time, a day or more.")
    ] = "30 d",
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Clean this shared store instead of the cache.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the artifacts, without deleting any.")] = False,
    json_: options.Json = False,
) -> None:
    """Delete artifacts unused for a given time; artifacts of running commands stay."""
    try:
        seconds = read_seconds(unused)
    except ValueError as error:
        raise UsageError(f"`--unused {unused}` is not a duration", "such as `--unused 30d`") from error
    if seconds < _DAY:
        raise UsageError(f"`--unused {unused}` is less than a day", "a run may be about to use newer artifacts")
    if store:
        gone = list(collect_remote(Remote(store), seconds, dry=dry_run))
    else:
        gone = list(collect(Store.default(), seconds, dry=dry_run))
    freed = sum(one.bytes for one in gone)
    if json_:
        show_json({"schema_version": 1, "removed": not dry_run, "bytes": freed, "artifacts": [*map(asdict, gone)]})
    else:
        number = plural(len(gone), "artifact")
        show_text(f"{number}, {size(freed)}, {'would be' if dry_run else 'are'} removed")


@dataclass(frozen=True)
class _Row:
    """Artifact that a command names, the bytes copied, and the result."""

    step: str
    operation: str
    key: str
    bytes: int = 0
    status: str = _NOT_MADE


@cache.command("push", cls=Command, epilog=examples("cache push my.yaml s3://bucket/prefix"))
def cache_push(
    what: WhatArgument,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="A shared store: s3://bucket/prefix, a folder, or any URL of fsspec.")
    ],
    all_: AllOption = False,
    json_: options.Json = False,
) -> None:
    """Publish artifacts in a shared store."""
    remote = Remote(url)
    rows = []
    for row, artifact in _made(what, all_=all_):
        if artifact:
            artifact.verify()
            there = remote.has(row.operation, row.key) or not remote.push(artifact)
            row = replace(row, bytes=artifact.size, status="there already" if there else "published")
        rows.append(row)
    _show(rows, url, json_=json_)


@cache.command(
    "pull", cls=Command, epilog=examples("cache pull my.yaml s3://bucket/prefix", "cache pull artifacts.zip")
)
def cache_pull(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[SPEC|KEY...] URL", help="Specs or keys to fetch, then the store's URL or a .zip file."
        ),
    ],
    all_: AllOption = False,
    json_: options.Json = False,
) -> None:
    """Fetch artifacts from a shared store or a file of `cache export`; verify every byte.

    Without SPEC or KEY all artifacts are fetched. Only SPEC imports code: the networks and datasets that it names.
    """
    store, (*what, url) = Store.default(), source
    remote = Remote(url)
    by_name = what and all(map(_is_spec, what))  # keys are looked up in the artifact list
    artifacts = [] if by_name else [*remote.artifacts()]
    listed = [_Row(str(about.get("step", "")), operation, key) for (operation, key), about in artifacts]
    if not listed and not what:
        raise UsageError(f"there is no artifact in {url}", "`autosparse cache push` or `cache export` writes some")
    asked, rows = _asked(what, listed, all_=all_) if what else listed, []
    sizes = {key: size_of(about) for (_, key), about in artifacts}
    check_room(store.root, sum(sizes.get(row.key, 0) for row in asked if not store.holds(row.operation, row.key)))
    for row in asked:
        if store.holds(row.operation, row.key):
            rows.append(replace(row, status="here already"))
        elif not remote.has(row.operation, row.key):
            rows.append(replace(row, status="not there"))
        else:
            artifact = store.take(remote, row.operation, row.key)
            rows.append(replace(row, bytes=artifact.size, status="taken"))
    _show(rows, url, json_=json_)


@cache.command("export", cls=Command, epilog=examples("cache export my.yaml artifacts.zip"))
def cache_export(
    what: WhatArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .zip file to write.")],
    all_: AllOption = False,
    json_: options.Json = False,
) -> None:
    """Write artifacts into one file, which `autosparse cache pull FILE` reads."""
    if file.suffix != ".zip":
        raise UsageError(f"{file} is not a .zip file", f"name it {file.with_suffix('.zip')}")
    sweep(file.parent, file.name)
    if file.exists():
        raise UsageError(f"{file} exists", "name another")
    made = _made(what, all_=all_)
    present = [artifact for _, artifact in made if artifact]
    if not present:
        raise UsageError(f"nothing of {', '.join(what)} is made yet", "run it first")
    with writing(file, "name another"), drafted(file, link_new) as draft:
        write_archive(draft, present, _page(present))
    rows = [replace(row, bytes=one.size, status="exported") if one else row for row, one in made]
    _show(rows, str(file), json_=json_)


def _made(what: Sequence[str], *, all_: bool) -> list[tuple[_Row, Artifact | None]]:
    """Return the artifacts of specs and keys in the local cache; None for missing ones."""
    store = Store.default()
    here = [_Row(one.descriptor.get("step", ""), one.descriptor["operation"], one.key) for one in store.artifacts()]
    asked = _asked(what, here, all_=all_)
    return [(row, store.open(row.operation, row.key) if store.holds(row.operation, row.key) else None) for row in asked]


def _is_spec(named: str) -> bool:
    return not (len(named) >= _SHORTEST and set(named) <= set("0123456789abcdef"))


def _asked(what: Sequence[str], known: Sequence[_Row], *, all_: bool) -> list[_Row]:
    """Return the artifacts of specs and keys, each once; a key is one of the `known` ones."""
    asked: dict[str, _Row] = {}
    for named in what:
        if _is_spec(named):
            loaded = load_spec(find_spec(named, Store.default()).path)
            spec = with_settings(loaded.spec, remembered_settings(loaded.spec, Store.default()))
            note_user_code(spec, say)
            steps = compile_plan(resolve(spec, this_machine()), loaded.name).steps.values()
            meant = [_Row(s.name, s.operation, s.key) for s in steps if all_ or s.purpose in _SHARED]
            if not meant:
                raise UsageError(f"spec {named} has no IRP and no scorer", "`--all` includes all of its steps")
        else:
            meant = [one for one in known if one.key.startswith(named)]
            if len(meant) != 1:
                if meant:
                    raise UsageError(f"{len(meant)} artifacts have keys that begin with {named}", "write more of it")
                hint = "`autosparse cache ls` lists those that are here"
                raise UsageError(f"no artifact has a key that begins with {named}", hint)
        asked |= {one.key: one for one in meant}
    return [*asked.values()]


def _show(rows: Sequence[_Row], url: str, *, json_: bool) -> None:
    if json_:
        show_json({"schema_version": 1, "place": url, "artifacts": [asdict(row) for row in rows]})
        return
    lines = [(row.step, row.key[:12], size(row.bytes) if row.bytes else "", row.status) for row in rows]
    show_table(["step", "key", "size", ""], lines)


def _page(artifacts: Sequence[Artifact]) -> str:
    lines = ["# Artifacts of autosparse", "", "`autosparse cache pull FILE` imports them and verifies every byte.", ""]
    for artifact in artifacts:
        about = artifact.descriptor
        made: dict[str, Any] = {
            "key": artifact.key,
            "spec": about.get("spec"),
            "made": about.get("created"),
            "in": f"{about.get('seconds')} s",
            "by": ", ".join(f"{name} {value}" for name, value in about.get("environment", {}).items()),
            "size": size(artifact.size),
            "options": json.dumps(about.get("options")),
        }
        listed = [f"* {name}: {markdown(value)}" for name, value in made.items()]
        lines += [f"## {markdown(about.get('step'))}", "", *listed, ""]
    return "\n".join(lines)
