"""Run folders, `runs/<spec name>-<n>/`, one for each different plan, and their history."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from autosparse.errors import Busy, MissingRequirement, UsageError
from autosparse.regular_file import LARGEST_MEMORY, LARGEST_NOTE, read_regular
from autosparse.report.cells import columns_of, rows_of
from autosparse.report.finished import Finished
from autosparse.report.schema import SCHEMA_VERSION, Report
from autosparse.steps import metrics_of
from autosparse.store.files import (
    discard,
    drafted,
    drafted_folder,
    drafted_name,
    held,
    holds,
    link_new,
    sweep,
    unheld,
    write_through,
    writing,
)
from autosparse.store.sealed import seal, unseal
from autosparse.text import shell_word

RUNS = Path("runs")
_REPORT, _PLAN, _TAGS, _RESOLVED = "report.json", "plan.json", "tags.json", "resolved.json"
_SPEC = "spec.yaml"
LOG, _METRICS = "log.txt", "metrics.jsonl"
_LEFT = (_REPORT, _PLAN, _TAGS, _RESOLVED, _METRICS, LOG, _SPEC, "models", "scorer", "ticket", "tensorboard", "wandb")
"""contents of a run folder"""


_KIND = "autosparse run"
"""field `kind` of a run folder's plan, which marks the folder as ours"""
_ANOTHER = "name another with `--out`"


@dataclass(frozen=True)
class Run:
    """Folder of a run; `report` is None for the reason in `problem`, which `remedy` ends."""

    folder: Path
    report: Report | None
    problem: str
    tags: tuple[str, ...]
    remedy: str = ""


def open_folder(
    name: str, plan: Mapping[str, Any], *, digest: str, spec: Path | None, resolved: Mapping[str, Any], out: Path | None
) -> Path:
    """Return the folder of this plan: that of an earlier call, or else a new one with the next number.

    `out` names the folder instead; it must be empty, absent, or of this plan. A new folder appears whole.
    """
    files = {_PLAN: seal({"kind": _KIND, **plan, "digest": digest}), _RESOLVED: seal(resolved)}
    # In a saved plan the name may be a path: the folder stays within `runs`.
    name = re.sub(r"[/\\\0]", "_", name)
    with writing(out or RUNS, _ANOTHER):
        if spec is not None and spec.is_file():  # a pipe can be read only once
            files[_SPEC] = read_regular(spec, most=LARGEST_NOTE)
        if out is None:
            return _numbered_folder(name, digest, files)
        if not _is_folder_of(out, digest, files):
            removed = f"; `autosparse runs rm {shell_word(out)}` removes that run" if _is_run(out) else ""
            content = "another run" if removed else "something else"
            raise UsageError(f"{out} holds {content}", f"name an empty folder with `--out`{removed}")
        return out


def _numbered_folder(name: str, digest: str, files: Mapping[str, bytes]) -> Path:
    sweep(RUNS)
    while True:  # another process may take the number
        numbered = _numbered(name)
        known = next((folder for folder in numbered.values() if _digest_of(folder) == digest), None)
        used = (number for number, folder in numbered.items() if not is_vacant(folder))
        folder = known or RUNS / f"{name}-{max(used, default=0) + 1}"
        if _is_folder_of(folder, digest, files):
            return folder


def _is_folder_of(folder: Path, digest: str, files: Mapping[str, bytes]) -> bool:
    """Return whether a folder is that of a plan: already, or after it is made or completed."""
    if not folder.exists():
        with suppress(FileExistsError):  # another process has made it since
            with drafted_folder(folder) as draft:
                for name, data in files.items():
                    (draft / name).write_bytes(data)
            return True
    if is_vacant(folder):  # such as a mounted disk, which no rename replaces
        with suppress(FileExistsError), drafted(folder / _PLAN, link_new) as plan:
            plan.write_bytes(files[_PLAN])
    if _digest_of(folder) != digest:
        return False
    for name, data in files.items():
        if not (folder / name).exists():
            write_file(folder / name, data)
    return True


def is_vacant(folder: Path) -> bool:
    """Return whether a path is an empty folder or unused; drafts of killed processes are removed before."""
    if not folder.is_dir():
        return not os.path.lexists(folder)
    sweep(folder, *_LEFT)
    return not any(folder.iterdir())


def resolved_of(run: Run) -> dict[str, Any]:
    """Return the resolved spec of a run. Raises UsageError where it is absent or damaged."""
    return _recorded(run, _RESOLVED)


def spec_name_of(run: Run) -> str:
    """Return the name of a run's spec. Raises UsageError where it is absent or damaged."""
    return str(_recorded(run, _PLAN, "spec")["spec"])


def spec_text_of(run: Run) -> str:
    """Return the spec of a run as its user wrote it, or an empty text for a run without a file."""
    return _text(run.folder / _SPEC)


def _recorded(run: Run, file: str, *keys: str) -> dict[str, Any]:
    value = _load(run.folder / file)
    if value is None or not value.keys() >= {*keys}:
        raise UsageError(f"run {run.folder} has no spec", "run its spec again")
    return value


def report_of(run: Run, purpose: str) -> Report:
    """Return the report of a run to be `shown` or `compared`. Raises UsageError where it has none."""
    if run.report is None:
        raise UsageError(f"run {run.folder} cannot be {purpose}: {run.problem}", run.remedy)
    return run.report


def running(folder: Path) -> AbstractContextManager[None]:
    """Mark a run folder as in use for the block, with other processes of the same plan."""
    return held(folder / _PLAN, shared=True)


def save_report(folder: Path, report: Report) -> None:
    """Write a run's report atomically."""
    write_file(folder / _REPORT, seal(report.json()))


def save_metrics(folder: Path, finished: Finished) -> None:
    """Write the metrics of every finished step, a line each, in the plan's order, atomically."""
    lines = []
    for step in finished.steps():
        if metrics := metrics_of(finished.open(step.name)):
            about = {"step": step.name, "operation": step.operation, "purpose": step.purpose}
            lines.append(json.dumps({**about, "key": step.key, "metrics": metrics}))
    write_file(folder / _METRICS, "".join(f"{line}\n" for line in lines))


def all_runs() -> list[Run]:
    """Return the runs of the current directory, the latest last."""
    sweep(RUNS)
    folders = RUNS.iterdir() if RUNS.is_dir() else ()
    return [_run(folder) for folder in sorted(filter(_is_run, folders), key=_time)]


def find_run(named: str | None) -> Run:
    """Return a run by folder or name; without one, the latest finished run. Raises UsageError without any."""
    if named is None:
        finished = [run for run in all_runs() if run.report]
        if not finished:
            raise UsageError("no finished run in this directory", "run `autosparse run`, or name a run folder")
        return finished[-1]
    for folder in (Path(named), RUNS / named):
        with suppress(OSError):  # a name that no file can have
            if _is_run(folder):
                return _run(folder)
    raise UsageError(f"no run `{named}`", "run `autosparse runs` to see those of this directory")


def tags_of(named: Iterable[str]) -> tuple[str, ...]:
    """Return tags without surrounding spaces. Raises UsageError for a tag that is empty or holds a comma."""
    tags = tuple(tag.strip() for tag in named)
    if odd := [tag for tag in tags if not tag or "," in tag]:
        raise UsageError(f"`{odd[0]}` is not a tag", "a tag is a word or a few, without commas")
    return tags


def tag_run(run: Run, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Run:
    """Add tags to a run and remove others."""
    gone = {*remove}
    tags = tuple(tag for tag in dict.fromkeys([*run.tags, *add]) if tag not in gone)
    write_file(run.folder / _TAGS, seal({"tags": tags}), hint=None)
    return replace(run, tags=tags)


def remove_folder(folder: Path) -> None:
    """Remove a run folder. Raises UsageError for one with files that no run writes, Busy for one of a live run."""
    others = sorted(path.name for path in folder.iterdir() if not _is_ours(path.name))
    if others or folder.is_symlink():
        why = f"holds `{others[0]}`, which is not part of a run" if others else "is a link"
        raise UsageError(f"{folder} {why}", "remove it yourself")
    try:
        plan = folder / _PLAN  # which a live run holds
        with unheld(plan if plan.is_file() else folder) as is_free:
            if is_free is False:
                raise Busy(f"run {folder} is running", "stop it first, or wait for its end")
            discard(folder)
    except OSError as error:
        raise MissingRequirement(f"{folder} cannot be removed: {error.strerror or error}") from error


def _is_run(folder: Path) -> bool:
    # A file of a run marks its folder, so that a damaged one can be removed too.
    return (
        folder.is_dir()
        and not drafted_name(folder.name)
        and any((folder / name).is_file() for name in (_PLAN, _RESOLVED, _REPORT))
    )


def _run(folder: Path) -> Run:
    known = (_load(folder / _TAGS) or {}).get("tags")
    tags = tuple(map(str, known)) if isinstance(known, list) else ()
    if os.path.lexists(folder / _REPORT):
        report, problem = _read_report(folder / _REPORT)
        return Run(folder, report, problem, tags, "" if report else "the command that started it writes it again")
    return Run(folder, None, *_unfinished(folder, tags))


def _unfinished(folder: Path, tags: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    # The reason why a run has no report, its tags, and the remedy.
    removed = f"`autosparse runs rm {shell_word(folder)}` removes it"
    if _digest_of(folder) is None:
        state = "is damaged" if os.path.lexists(folder / _PLAN) else "is missing"
        return f"its {_PLAN} {state}", tags, removed
    with suppress(OSError), unheld(folder / _PLAN) as is_free:
        if is_free is False:
            return "it is running", tags, "wait for its end"
    resumed = f"the command that started it resumes it; {removed}"
    last_call = _text(folder / LOG).rpartition(" run starts\n")[2]
    if " fails: " in last_call:
        return "a step failed before there was a result", tags, f"its {LOG} has the reason; {resumed}"
    return "it has not finished", tags, resumed


def _digest_of(folder: Path) -> str | None:
    recorded = _load(folder / _PLAN) or {}
    return str(recorded.get("digest")) if recorded.get("kind") == _KIND else None


def _read_report(path: Path) -> tuple[Report | None, str]:
    # The report, or the reason why there is none.
    try:
        value = unseal(read_regular(path, most=LARGEST_MEMORY))
    except OSError as error:
        return None, f"its {_REPORT} cannot be read: {error.strerror}"
    except ValueError:
        return None, f"its {_REPORT} is damaged"
    other = f"its {_REPORT} was written by another version of autosparse"
    version = value.get("schema_version")
    if isinstance(version, int) and version != SCHEMA_VERSION:
        return None, other
    try:
        report = Report.of(value)
        columns_of(report), rows_of(report)  # as commands over several runs read it
        return report, ""
    except ValidationError as error:
        absent = version == SCHEMA_VERSION and all(one["type"] == "missing" for one in error.errors())
        return None, other if absent else f"its {_REPORT} is damaged"
    except Exception:  # a report of the right form that contradicts itself
        return None, f"its {_REPORT} is damaged"


def _time(folder: Path) -> float:
    for path in (folder / _REPORT, folder / _PLAN, folder):
        with suppress(OSError):  # absent, a broken link, or removed meanwhile
            return path.stat().st_mtime
    return 0.0


def _numbered(name: str) -> dict[int, Path]:
    folders = RUNS.iterdir() if RUNS.is_dir() else ()
    tails = {folder: folder.name.removeprefix(f"{name}-") for folder in folders if folder.name.startswith(f"{name}-")}
    return {int(tail): folder for folder, tail in sorted(tails.items()) if tail.isdecimal()}


def _load(path: Path) -> dict[str, Any] | None:
    # None for a missing or a damaged file.
    try:
        return unseal(read_regular(path, most=LARGEST_MEMORY))
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return read_regular(path, most=LARGEST_NOTE).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _is_ours(name: str) -> bool:
    # Or the draft of a killed run, such as `.report.json.1f2e3d4c5b6a.draft`.
    return (drafted_name(name) or name) in _LEFT


def write_file(path: Path, content: bytes | str, *, hint: str | None = _ANOTHER) -> None:
    """Write a file atomically; an existing one with the same bytes stays untouched."""
    # Bytes of file names that are no text become escapes, which JSON reads.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with writing(path, hint):
        sweep(path.parent, path.name)
        if not holds(path, data):
            with drafted(path) as draft:
                write_through(draft, data)


def write_folder(path: Path, files: Mapping[str, Callable[[], bytes]], *, hint: str | None = _ANOTHER) -> None:
    """Write the files of a folder, relative path -> content.

    A new folder appears whole. In an existing one each file is replaced atomically, and other files stay.
    """

    def fill(folder: Path, write: Callable[[Path, bytes], object]) -> None:
        for name, read in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name, read())

    with writing(path, hint):
        if not path.exists():
            try:
                with drafted_folder(path) as draft:
                    return fill(draft, Path.write_bytes)
            except FileExistsError:  # another process has made it since
                pass
        fill(path, partial(write_file, hint=hint))


@dataclass(frozen=True)
class Reached:
    """Results of a run's own method: budget -> mean test accuracy in %, and the budgets at which no other run has more.

    `statuses` count the seeds that failed, diverged, collapsed or are at chance, by budget: `1 diverged`, or `diverged`
    for all of them. Means without a network above chance are never the best.
    """

    run: Run
    accuracy: dict[str, float]
    best: tuple[str, ...]
    statuses: dict[str, str]


def history(runs: Sequence[Run]) -> list[Reached]:
    """Return the results of each run; several runs of one network on one dataset are compared."""
    cells = [_cells(run) for run in runs]
    reached = [{label: fmean(values) for label, values, *_ in one if values} for one in cells]
    sound = [{label for label, *_, is_sound in one if is_sound} for one in cells]
    kinds = [_kind(run) for run in runs]
    rows = []
    for number, (run, accuracies, row) in enumerate(zip(runs, reached, cells, strict=True)):
        others = [n for n, other in enumerate(runs) if other is not run and kinds[n] == kinds[number]]
        rivals = {label: [reached[n][label] for n in others if label in sound[n]] for label in sound[number]}
        best = tuple(label for label, value in accuracies.items() if rivals.get(label) and value >= max(rivals[label]))
        rows.append(Reached(run, accuracies, best, {label: status for label, _, status, _ in row if status}))
    return rows


def _cells(run: Run) -> list[tuple[str, Sequence[float], str, bool]]:
    # Of the run's own method: budget, accuracies, statuses, and whether some network is above chance.
    if run.report is None:
        return []
    row = next((row for row in rows_of(run.report) if row.name == run.report.method), None)
    return [*zip(columns_of(run.report), row.cells, row.statuses, row.sound, strict=True)] if row else []


def _kind(run: Run) -> Any:
    # Accuracies are comparable for the same network and images, with all of their options.
    spec = _load(run.folder / _RESOLVED)
    if spec and {"model", "dataset"} <= spec.keys():
        return spec["model"], spec["dataset"]
    return run.report and (run.report.model, run.report.dataset)
