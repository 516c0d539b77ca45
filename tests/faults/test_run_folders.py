"""Folders that appear whole: after a kill at any change to them, the same call leaves the files of an unkilled one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from autosparse.cli.cache import cache_export
from autosparse.errors import MissingRequirement, UsageError
from autosparse.report.folder import (
    RUNS,
    all_runs,
    find_run,
    open_folder,
    remove_folder,
    running,
    write_folder,
)
from autosparse.steps.tuning.study import Trial, export_study
from autosparse.store import Remote, Store
from autosparse.store.files import drafted_folder, held, key_of, scratch, sweep
from autosparse.store.sealed import seal
from tests.conftest import Ended, Workspace, call
from tests.faults.kills import every_kill

_DIFFER = ("log.txt", "plan.json", "report.json", "metrics.jsonl")  # they hold times and what a call ran
FILES = ["plan.json", "resolved.json", "spec.yaml"]


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files and empty folders below a folder, and the bytes of those that are the same in every call."""
    return {
        str(path.relative_to(folder)): b"" if path.is_dir() or path.name in _DIFFER else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text("version: 1\n")


def opened(digest: str = "1", out: str | None = None) -> Path:
    """Open the run folder of a plan."""
    options: dict[str, Any] = {"spec": Path("small.yaml"), "resolved": {"a": 1}, "out": Path(out) if out else None}
    return open_folder("small", {"spec": "small"}, digest=digest, **options)


@pytest.mark.parametrize(
    ("out", "before"),
    [(None, ""), ("out", ""), ("deep/er/out", ""), ("out", "mkdir"), ("out", "plan"), (None, "emptied")],
)
def test_a_run_folder_appears_whole(out: str | None, before: str) -> None:
    """Under `runs` and under `--out`: new, empty as a mounted disk is, or with the plan alone."""

    def prepare() -> None:
        for path in (RUNS, Path("out"), Path("deep")):
            shutil.rmtree(path, ignore_errors=True)
        if before == "emptied":
            (RUNS / "small-1").mkdir(parents=True)
        if before in ("mkdir", "plan"):
            Path("out").mkdir()
        if before == "plan":
            Path("out/plan.json").write_bytes(seal({"kind": "autosparse run", "digest": "1"}))

    killed = 0
    prepare()
    for _ in every_kill(Path(), partial(opened, "1", out)):
        killed += 1
        folder = opened("1", out)

        assert Path(out or "runs/small-1") == folder
        assert FILES == sorted(tree(folder))
        assert [folder.name] == [path.name for path in folder.parent.iterdir() if path.name not in ("small.yaml",)]
        assert [str(folder)] == [str(run.folder) for run in ([find_run(str(folder))] if out else all_runs())]
        prepare()
    assert killed >= 4


@pytest.mark.parametrize("old", [{}, {"a/x": b"old", "mine": b"stays"}])
def test_a_folder_of_files_appears_whole(old: dict[str, bytes]) -> None:
    """A new one in one rename; of an existing one each file, and other files stay."""
    files = {"a/x": b"1", "a/y": b"2", "b/z": b"3"}
    write = partial(write_folder, Path("models"), {name: partial(bytes, data) for name, data in files.items()})

    def prepare() -> None:
        shutil.rmtree("models", ignore_errors=True)
        for name, data in old.items():
            Path("models", name).parent.mkdir(parents=True, exist_ok=True)
            Path("models", name).write_bytes(data)

    prepare()
    for _ in every_kill(Path(), write):
        if not old:
            assert not Path("models").exists() or tree(Path("models")) == files
        write()

        assert {**old, **files} == tree(Path("models"))
        assert {"models", "small.yaml"} == {path.name for path in Path().iterdir()}
        prepare()


def test_a_removed_run_vanishes_whole() -> None:
    """In one rename: `runs` shows it or nothing is left of it."""
    opened()
    for _ in every_kill(Path(), lambda: remove_folder(RUNS / "small-1")):
        runs = all_runs()

        assert (["small-1"] if runs else []) == [path.name for path in RUNS.iterdir()]
        if runs:
            assert FILES == sorted(tree(runs[0].folder))
        else:
            opened()


@pytest.mark.slow
def test_a_study_appears_whole() -> None:
    """It is whole or absent, and the next call leaves nothing else."""
    trials = [Trial({"steps": 3}, 0.5, (0.5,), False)]
    space = {"steps": {"low": 1, "high": 9, "log": False}}
    write = partial(export_study, Path("new/s.db"), "n", {"steps": 3}, space, trials)
    Path("new").mkdir()
    for _ in every_kill(Path("new"), write):
        with suppress(UsageError):  # it exists: the process was killed after its end
            write()

        assert ["s.db"] == [path.name for path in Path("new").iterdir()]
        Path("new/s.db").unlink()


@pytest.mark.slow
def test_an_archive_appears_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole or absent, and the next call leaves nothing else."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(Path("cache").absolute()))
    made: dict[str, Any] = {"version": 1, "options": {}, "inputs": {}}
    key = key_of("mask", *made.values())
    Store.default().publish("mask", key, lambda draft: draft.write_json("a", 1), lambda: made)
    write = partial(cache_export, [key], Path("new/a.zip"), all_=False, json_=True)
    Path("new").mkdir()
    for _ in every_kill(Path("new"), write):
        with suppress(UsageError):  # it exists: the process was killed after its end
            write()

        assert ["a.zip"] == [path.name for path in Path("new").iterdir()]
        assert [key] == [key for (_, key), _ in Remote("new/a.zip").artifacts()]
        Path("new/a.zip").unlink()


def test_two_plans_at_one_folder() -> None:
    """The later one is refused; the files of the first stay."""
    with pytest.raises(FileExistsError), drafted_folder(Path("out")):
        opened("1", "out")
    with pytest.raises(UsageError, match="out holds another run") as refused:
        opened("2", "out")

    assert "name an empty folder with `--out`; `autosparse runs rm out` removes that run" == refused.value.hint
    assert Path("out") == opened("1", "out")
    assert FILES == sorted(tree(Path("out")))


def test_a_live_draft_stays() -> None:
    """A lock marks it, which ends with its process."""
    with scratch(Path("out")) as draft:
        sweep(Path())

        assert draft.is_dir()
    dead = Path(".out.0123456789ab.draft")
    dead.mkdir()
    Path(".out.not-a-draft").mkdir()
    sweep(Path(), "other")
    assert dead.exists()
    sweep(Path())

    assert [".out.not-a-draft"] == [path.name for path in Path().glob(".*")]


def test_a_stranger_is_no_run_folder() -> None:
    """Its files stay, whatever their names."""
    Path("out").mkdir()
    for name, text in (("spec.yaml", "mine"), ("plan.json", '{"digest": "1"}'), (".x.0123456789ab", "mine")):
        Path("out", name).write_text(text)
    before = tree(Path("out"))

    with pytest.raises(UsageError, match="out holds "):
        opened("1", "out")
    assert before == tree(Path("out"))


def test_a_pipe_is_no_reason_to_stop(capfd: pytest.CaptureFixture[str]) -> None:
    """Its spec is read once: the folder holds the resolved one alone."""
    os.mkfifo("pipe.yaml")
    options: dict[str, Any] = {"digest": "1", "resolved": {}, "out": None}

    assert ["plan.json", "resolved.json"] == sorted(tree(open_folder("p", {}, spec=Path("pipe.yaml"), **options)))


@pytest.mark.parametrize("out", [None, "out"])
def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, out: str | None) -> None:
    """The system names no file in an error of a write."""

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MissingRequirement, match=f"^{out or 'runs'} cannot be written: No space left on device"):
        opened("1", out)

    assert not [path for path in Path().rglob("*") if path.is_file() and path.name != "small.yaml"]


RESUMED = "the command that started it resumes it; `autosparse runs rm runs/small-1` removes it"


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (lambda folder: None, "it has not finished", RESUMED),
        (
            lambda folder: (folder / "plan.json").unlink(),
            "its plan.json is missing",
            "`autosparse runs rm runs/small-1` removes it",
        ),
        (lambda folder: (folder / "plan.json").write_text("{"), "its plan.json is damaged", "runs rm runs/small-1`"),
        (
            lambda folder: (folder / "log.txt").write_text("t run starts\nt data fails: x\nt run finished\n"),
            "a step failed before there was a result",
            f"its log.txt has the reason; {RESUMED}",
        ),
        (
            lambda folder: (folder / "log.txt").write_text("t run starts\nt data fails: x\nt run starts\n"),
            "it has not finished",
            RESUMED,
        ),
        (lambda folder: (folder / "report.json").write_text("{"), "its report.json is damaged", "writes it again"),
    ],
)
def test_an_unfinished_run_says_what_to_do(
    capsys: pytest.CaptureFixture[str], change: Callable[[Path], Any], problem: str, remedy: str
) -> None:
    """In `runs` and in `report`; `runs rm` removes it, in any state."""
    change(opened())
    listed, shown = call(capsys, "runs --json").json["runs"], call(capsys, "report small-1")
    table = " ".join(call(capsys, "runs").out.split())

    assert [("runs/small-1", problem)] == [(run["run"], run["problem"]) for run in listed]
    assert problem in table
    assert f"cannot be shown: {problem}\nhint: " in shown.err
    assert remedy in shown.err
    assert 0 == call(capsys, "runs rm small-1 --yes").code
    assert [] == [*RUNS.iterdir()]


def test_hidden_files_of_the_user_stay() -> None:
    """Only the names of drafts are swept, not others that end in digits."""
    names = [".backup.202611301230", ".report.json.1f2e3d4c5b6a", ".draft", "x.1f2e3d4c5b6a.draft"]
    for name in names:
        (RUNS / name).mkdir(parents=True)
    (RUNS / ".small-1.1f2e3d4c5b6a.draft").mkdir()
    all_runs()

    assert sorted(names) == sorted(path.name for path in RUNS.iterdir())


def test_a_dangling_link_is_no_vacant_folder() -> None:
    """Its number is used, and `--out` refuses it."""
    RUNS.mkdir()
    Path(RUNS, "small-1").symlink_to("unmounted")

    assert Path("runs/small-2") == opened()
    with pytest.raises(UsageError, match="holds something else"):
        opened(out="runs/small-1")


def test_a_draft_that_is_swept_before_its_lock_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may look between the two."""
    removed = list[Path]()

    def lock(path: Path, *, shared: bool = False) -> AbstractContextManager[None]:
        if not removed:
            removed.append(path)
            path.rmdir()
        return held(path, shared=shared)

    monkeypatch.setattr("autosparse.store.files.held", lock)
    with drafted_folder(Path("models")) as draft:
        (draft / "a").write_bytes(b"1")

    assert removed
    assert b"1" == Path("models/a").read_bytes()


def test_a_plan_of_any_size_has_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new folder is not read back before it counts."""
    monkeypatch.setattr("autosparse.report.folder.LARGEST_MEMORY", 10)

    assert Path("runs/small-1") == opened()
    assert ["small-1"] == [path.name for path in RUNS.iterdir()]


def test_a_live_run_is_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    """It is busy, and says that it runs."""
    with running(opened()), running(opened()):
        removed, shown = call(capsys, "runs rm small-1 --yes"), call(capsys, "report small-1")

        assert (6, 2) == (removed.code, shown.code)
        assert "run runs/small-1 is running" in removed.err
        assert "cannot be shown: it is running" in shown.err
    assert 0 == call(capsys, "runs rm small-1 --yes").code


def test_a_template_is_written_after_a_kill(capsys: pytest.CaptureFixture[str]) -> None:
    """One of its two files with the same bytes is no reason to refuse; both of them are, and another file."""
    line = "init my.yaml --template own_model"
    codes = [call(capsys, line).code for _ in range(2)]
    Path("own_model.py").unlink()
    codes.append(call(capsys, line).code)
    Path("own_model.py").unlink()
    Path("my.yaml").write_text("mine")

    assert [0, 2, 0] == codes
    assert "my.yaml is already there" in call(capsys, line).err
    assert not Path("own_model.py").exists()


def _cached(finished: Workspace, folder: Path) -> Workspace:
    # The small spec with all of its steps in the cache, and no run.
    shutil.copytree(finished.cache, folder / "cache", copy_function=os.link)
    shutil.copy(finished.folder / "small.yaml", folder)
    return replace(finished, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize(
    ("line", "within"),
    [
        (("run", "small.yaml", "--quiet"), "runs"),
        (("export", "small-1", "--format", "safetensors", "--out", "new", "--quiet"), "new"),
    ],
    ids=["run", "export"],
)
def test_a_command_killed_anywhere(
    finished: tuple[Workspace, Ended], tmp_path: Path, line: tuple[str, ...], within: str, first: int
) -> None:
    """At every change to its folder: the same command again succeeds, and leaves the same files."""
    workspace = _cached(finished[0], tmp_path)
    assert 0 == workspace.run("run", "small.yaml", "--quiet").code
    shutil.rmtree(tmp_path / within, ignore_errors=True)
    assert 0 == workspace.run(*line).code
    expected = tree(tmp_path / within)
    for number in count(first, 3):
        shutil.rmtree(tmp_path / within)
        if workspace.run(*line, kill=(str(tmp_path / within), number)).code == 0:
            break
        again = workspace.run(*line)

        assert 0 == again.code, (number, again.err)
        assert expected == tree(tmp_path / within), number
    assert number > 10
