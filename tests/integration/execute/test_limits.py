"""Runs in real control groups with one core, 1 GiB of memory and 200 processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from autosparse.backends.cgroups import groups_of, read_system

CONTROLLERS = ("cpu", "memory", "pids")
LIMITS = {
    1: {"cpu.cfs_quota_us": "100000", "memory.limit_in_bytes": str(2**30), "pids.max": "200"},
    2: {"cpu.max": "100000 100000", "memory.max": str(2**30), "pids.max": "200"},
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def parents() -> dict[str, tuple[Path, int]]:
    """The folder, with its version, in which a group for each controller can be made; skips the test without."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    folders: dict[str, tuple[Path, int]] = {}
    for name in CONTROLLERS:
        for group in groups_of(name):
            enabled = read_system(group.folder / "cgroup.subtree_control").split()
            if group.version == 1 or {*CONTROLLERS} <= {*enabled}:
                folders.setdefault(name, (group.folder, group.version))
    if missing := {*CONTROLLERS} - {*folders}:
        pytest.skip(f"no control group here has the controllers {', '.join(sorted(missing))} for groups below it")
    if not all(os.access(folder, os.W_OK) for folder, _ in folders.values()):
        pytest.skip("the control groups are read-only")
    return folders


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Make limited groups, one folder for each controller, or one for all of version 2."""
    made: dict[str, Path] = {}
    try:
        for name, (parent, version) in parents().items():
            folder = made[name] = parent / f"autosparse-test-{os.getpid()}"
            try:
                folder.mkdir(exist_ok=True)
                for file, text in LIMITS[version].items():
                    if file.startswith(name):
                        (folder / file).write_text(text)
            except OSError as error:
                pytest.skip(f"no control group can be made: {error}")
        yield made
    finally:
        for folder in {*made.values()}:
            for _ in range(100):  # its last process may just end
                with suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.1)


@pytest.fixture
def run(groups: Mapping[str, Path], tmp_path: Path) -> Run:
    """Return a function that runs a command of autosparse in the groups."""
    # The process enters its groups before Python starts there.
    enter = "".join(f"echo $$ > '{folder}/cgroup.procs' && " for folder in {*groups.values()})
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()}
    for name in ("OMP_NUM_THREADS", "AUTOSPARSE_SPEC"):
        environment.pop(name, None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "autosparse", *arguments]
        shell = ["sh", "-c", f'{enter} exec "$@"', "sh", *line]
        return subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    return run


def kills(folder: Path) -> int:
    """The number of processes that the kernel has killed for lack of the group's memory."""
    text = read_system(folder / "memory.events") or read_system(folder / "memory.oom_control")
    return int(dict(line.split() for line in text.splitlines())["oom_kill"])


@pytest.mark.slow
def test_doctor_names_the_limits(run: Run, groups: Mapping[str, Path]) -> None:
    """Cores, threads, memory and processes are those of the groups, and each is named as the source."""
    ended = run("doctor", "--no-test", "--json")
    facts = json.loads(ended.stdout)
    limits = facts["limits"]

    assert (1, 1, 2**30, 200) == tuple(limits[name]["value"] for name in ("cores", "threads", "memory", "processes"))
    for name, controller in [("cores", "cpu"), ("threads", "cpu"), ("memory", "memory"), ("processes", "pids")]:
        assert limits[name]["source"].startswith("cgroup v")
        assert limits[name]["source"].endswith(f"/{groups[controller].name}")
    assert 2**29 < facts["memory_bytes"] <= 2**30
    assert 2**29 < facts["memory_available_bytes"] < 2**30
    assert 100 < facts["processes_available"] < 200


@pytest.mark.slow
def test_a_run_stays_within_the_limits(run: Run, groups: Mapping[str, Path]) -> None:
    """The digits with emission run with one thread, and no process is killed; the plan's peak is within the memory."""
    smaller = ["--budget", "0.9", "--set", "compare=[]", "--set", "irp.rounds=2", "--set", "emit=[safetensors, onnx]"]
    smaller += ["--set", "tuning.trials=1", "--set", "target.memory=auto"]
    planned = run("plan", "digits", *smaller, "--json")
    summary = json.loads(planned.stdout)["summary"]
    ended = run("run", "digits", *smaller, "--json")
    emitted = json.loads(ended.stdout)["emitted"]

    assert (0, 0) == (planned.returncode, ended.returncode)
    assert summary["peak_bytes"] <= summary["memory_bytes"] <= 2**30
    assert {"safetensors", "onnx"} == {model["format"] for model in emitted}
    assert 0 == kills(groups["memory"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "message"), [(340, "torch takes about 400 MiB of memory, and 3"), (500, "of memory at the peak, above")]
)
def test_a_plan_that_exceeds_the_group_is_refused(
    run: Run, groups: Mapping[str, Path], memory: int, message: str
) -> None:
    """Where the run, or torch itself, does not fit, exit code 3 names the memory, and no process is killed."""
    file = "memory.max" if (groups["memory"] / "memory.max").exists() else "memory.limit_in_bytes"
    (groups["memory"] / file).write_text(str(memory * 2**20))
    ended = run("run", "digits")

    assert 3 == ended.returncode
    assert message in ended.stderr
    assert 0 == kills(groups["memory"])
