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

from autosparse.cli import main
from autosparse.cost import price

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


MACHINE_RATES = {
    "startup": 2.0, "base": 5e8, "select": 1e-8, "scorer": 1e-3, "step": 0.01, "bytes": 1e-9, "open": 1.0,
    "decoded": 1e-8,
}  # fmt: skip
NETWORK_RATES = {
    "build": 0.01, "train": 1e-4, "forward": 1e-5, "gradient": 1e-4, "flow": 0.01, "features": 1e-7,
    "train_bytes": 1e6, "compiled": 5e-5, "compiling": 4.0,
    "sparse": 5e-5, "forward_bytes": 1e5, "gradient_bytes": 2e6,
}  # fmt: skip


_measured: Path | None = None  # what processes have measured of this machine, for all tests of a session


@pytest.fixture(scope="session", autouse=True)
def _measured_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _measured
    common = tmp_path_factory.getbasetemp()
    _measured = (common.parent if "PYTEST_XDIST_WORKER" in os.environ else common) / "measured"
    _measured.mkdir(exist_ok=True)


def _share_files(source: Path | None, place: Path | None) -> None:
    if source is None or place is None:
        return
    for path in [*source.glob("rates-*.json"), *source.glob("network-*.json")]:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / path.name).exists():
            draft = place / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, draft)
            draft.replace(place / path.name)


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
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
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
        """Begin a command in a process of its own."""
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

    def run(self, *arguments: str) -> Ended:
        """Run a command to its end, in a process of its own that has imported what it needs."""
        self.lend_rates()
        request = {"arguments": arguments, "folder": str(self.folder), "environment": self.environment}
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            code = _ask({**request, "out": str(out), "err": str(err)})
            ended = Ended(code, out.read_text(), err.read_text())
        _share_files(self.cache / "memory", _measured)
        return ended

    def lend_rates(self) -> None:
        """What another place has measured of this machine need not be measured here again."""
        _share_files(_measured, self.cache / "memory")

    def digests(self, operations: Sequence[str] = ("irp", "scorer", "mask", "train", "emit")) -> dict[str, str]:
        """sha256 of every tensor file, by operation, key and name."""
        found: dict[str, str] = {}
        for path in sorted((self.cache / "artifacts").glob("*/*/artifact.json")):
            if path.parent.parent.name in operations:
                files = json.loads(path.read_text())["files"]
                place = f"{path.parent.parent.name}/{path.parent.name}"
                found |= {
                    f"{place}/{name}": file["sha256"] for name, file in files.items() if name.endswith(".safetensors")
                }
        return found


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Plans made in this process see a machine of known speed; what was probed on it. Other processes see this one."""
    probed: list[str] = []

    def machine(place: Any, scorer: str, options: Any) -> dict[str, float]:
        probed.append("machine")
        return dict(MACHINE_RATES)

    def network(name: str, *about: Any) -> dict[str, float]:
        probed.append(name)
        own = {"sparse": {"sparse"}, "compiled": {"compiled", "compiling"}}
        others = {unit for kernels, units in own.items() if kernels not in about for unit in units}
        return {unit: rate for unit, rate in NETWORK_RATES.items() if unit not in others}

    monkeypatch.setattr(price, "probe_machine", machine)
    monkeypatch.setattr(price, "probe_network", network)
    monkeypatch.setattr(price, "system_load", lambda: 0.0)
    return probed


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty directory with the small spec in it and a cache of its own."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return Place(tmp_path)


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place as this process's own directory and environment."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(place.cache))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("AUTOSPARSE_SPEC", raising=False)
    return place


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Ended]:
    """The small spec, run once to its end: look, do not touch."""
    place = Place(tmp_path_factory.mktemp("finished"))
    (place.folder / "small.yaml").write_text(SMALL)
    ended = place.run("run", "small.yaml", "--json")
    assert ended.code == 0, ended.err
    return place, ended


def call(capsys: pytest.CaptureFixture[str], line: str) -> Ended:
    """Run a command in this process."""
    capsys.readouterr()
    code = 0
    try:
        main(shlex.split(line))
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)
