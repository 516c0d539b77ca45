"""A small spec that exercises every kind of step, and an empty place to run it in."""

from __future__ import annotations

import atexit
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import this_machine
from autosparse.cli import main
from autosparse.store import Store
from tests.plans import remember_rates

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes test at once: with more they wait for each other

SMALL = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: [0.8, 0.9]
target: {device: cpu, threads: 1}
irp: {rounds: 3, per_round: 0.5}
scorer: {name: mlp, steps: 20}
tuning: {trials: 3}
training: {epochs: 1, batch: 128, lr: 0.05, crop: 1, flip: false, precision: float32}
compare: [random, snip, {name: slow, criterion: synflow, schedule: {name: exponential, rounds: 3}}, dense]
"""


VARIANTS = ("training.kernels=dense", "training.kernels=sparse", "training.kernels=compiled", "scorer=quota")

_PRICED = ("plan", "run ", "study")

_rates: Path | None = None  # rates that commands need, for all tests of a session


@pytest.fixture(scope="session", autouse=True)
def _shared_rates(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _rates
    common = tmp_path_factory.getbasetemp()
    _rates = (common.parent if "PYTEST_XDIST_WORKER" in os.environ else common) / "rates"


@cache
def _remember_small() -> None:
    """Remember known rates for the small spec: commands that run it probe nothing."""
    with tempfile.TemporaryDirectory() as folder:
        spec, store = Path(folder) / "small.yaml", Store(Path(folder) / "cache")
        spec.write_text(SMALL)
        for override in VARIANTS:
            remember_rates(store, spec, override, machine=this_machine())
        _share_files(store.root / "memory", _rates)


def _share_files(source: Path | None, target: Path | None) -> None:
    if source is None or target is None:
        return
    for path in [*source.glob("rates-*.json"), *source.glob("network-*.json")]:
        target.mkdir(parents=True, exist_ok=True)
        if not (target / path.name).exists():
            draft = target / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, draft)
            draft.replace(target / path.name)


def _lend_rates(cache: Path) -> None:
    _remember_small()
    _share_files(_rates, cache / "memory")


@cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "tests.server"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=environment, **pipes)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _ask(request: Mapping[str, Any]) -> int:
    process = _server()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], 300)[0]:
        process.kill()
        _server.cache_clear()
        raise TimeoutError(f"{request['arguments']} has taken five minutes")
    return int(process.stdout.readline())


def _heeding_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ended:
    """Result of a finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Workspace:
    """A directory with its own cache, and the command line in it."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTOSPARSE_")}
        return {**kept, "AUTOSPARSE_CACHE_DIR": str(self.cache), "NO_COLOR": "1", "COLUMNS": "100"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in another process."""
        self.lend_rates()
        return subprocess.Popen(
            [sys.executable, "-m", "autosparse", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs ignore Ctrl-C, and what they start with them.
            preexec_fn=_heeding_interrupts if os.name == "posix" else None,
        )

    def run(self, *arguments: str, kill: tuple[str, int] | None = None) -> Ended:
        """Run a command to its end, in a process that has the imports already.

        `kill` is a folder and a number: the process is killed right before that change in the folder.
        """
        self.lend_rates()
        request: dict[str, Any] = {"arguments": arguments, "folder": str(self.folder), "environment": self.environment}
        if kill:
            request["hooks"] = [("tests.faults.kills", "arm", {"folder": kill[0], "number": kill[1]})]
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            code = _ask({**request, "out": str(out), "err": str(err)})
            ended = Ended(code, out.read_text(), err.read_text())
        _share_files(self.cache / "memory", _rates)
        return ended

    def lend_rates(self) -> None:
        """Remember in this cache the rates that the session knows: commands measure only the others."""
        _lend_rates(self.cache)

    def remember_rates(self, spec: Path | str, *overrides: str) -> None:
        """Remember known rates in this cache for all that the plan of a spec needs."""
        remember_rates(Store(self.cache), self.folder / spec, *overrides, machine=this_machine())

    def digests(self, operations: Sequence[str] = ("irp", "scorer", "mask", "train", "emit")) -> dict[str, str]:
        """sha256 of every tensor file, by operation, key and name."""
        results: dict[str, str] = {}
        for path in sorted((self.cache / "artifacts").glob("*/*/artifact.json")):
            if path.parent.parent.name in operations:
                files = json.loads(path.read_text())["files"]
                artifact = f"{path.parent.parent.name}/{path.parent.name}"
                results |= {
                    f"{artifact}/{name}": file["sha256"]
                    for name, file in files.items()
                    if name.endswith(".safetensors")
                }
        return results


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty directory with the small spec and its cache."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return Workspace(tmp_path)


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The place as the directory and environment of this process."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(workspace.cache))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("AUTOSPARSE_SPEC", raising=False)
    return workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Ended]:
    """The small spec, run once to its end: look, do not touch."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    (workspace.folder / "small.yaml").write_text(SMALL)
    ended = workspace.run("run", "small.yaml", "--json")
    assert ended.code == 0, ended.err
    return workspace, ended


def call(capsys: pytest.CaptureFixture[str], line: str) -> Ended:
    """Run a command in this process; those that price a plan know the rates of the session."""
    capsys.readouterr()
    code, folder = 0, os.environ.get("AUTOSPARSE_CACHE_DIR")
    if folder and line.startswith(_PRICED):
        _lend_rates(Path(folder))
    try:
        main(shlex.split(line))
    except SystemExit as end:
        code = int(end.code or 0)
    if folder:
        _share_files(Path(folder) / "memory", _rates)
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)
