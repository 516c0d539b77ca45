"""One training on several devices: as good as on one, the same masks, and an end with its reason if a part dies."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Placement as Where
from autosparse.cost.fitted import with_workers
from autosparse.errors import StepError
from autosparse.execute import Event, Execution, Note, Started
from autosparse.execute.data_parallel import _gather, _size, team_of
from autosparse.planning.model import Step
from autosparse.store import Store
from tests.conftest import Workspace
from tests.integration.execute.test_workers import fitted
from tests.plans import compiled

SPEC = """\
version: 1
model: {name: resnet8, width: 8}
dataset: digits
budget: 0.8
method: snip
compare: []
controls: []
emit: []
seeds: [0, 1]
irp: {rounds: 1, per_round: 0.5}
training: {epochs: 6, batch: 64, lr: 0.05, crop: 1, flip: false, precision: float32}
target: {device: cpu, threads: 2, workers: 1}
"""

STEP = Step("train/dense", "train", 1, {}, {}, "key", "network", {})
INTERRUPTED = """\
import signal
from autosparse.backends import Placement
from autosparse.execute.data_parallel import team_of
from tests.integration.execute.test_data_parallel import STEP

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with team_of(STEP, {}, Placement("cpu", 2, devices=2)):
            print("joined")
    except KeyboardInterrupt:
        print("stopped")
"""


class Fatal:
    """Handler that ends the process that it is sent to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


class Spoiler:
    """An observer that damages a mask at the start of a training, and keeps the notes."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.notes: list[str] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, Started) and event.step.startswith("train/"):
            next(self.store.glob("artifacts/mask/*/masks.safetensors")).write_bytes(b"")
        if isinstance(event, Note):
            self.notes.append(event.text)


def test_where_there_are_fewer_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing GPUs, and devices without a team; a CPU has as many processes as requested."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    assert [2, 1, 1, 3] == [
        _size(Where(d, 4, devices=n)) for d, n in (("cuda", 2), ("cuda", 3), ("mps", 2), ("cpu", 3))
    ]


def test_workers_and_devices_exclude_each_other(tmp_path: Path) -> None:
    """Workers cannot start processes: the requested number is lowered, with a warning."""
    auto = with_workers(fitted(tmp_path, "target.devices=2"), 8)
    asked = with_workers(fitted(tmp_path, "target.devices=2", "target.workers=3"), 8)

    assert (1, 1) == (auto.workers, asked.workers)
    assert ["target.workers 3 → 1"] == [str(adjustment) for adjustment in asked.adjustments]
    assert replace(auto, adjustments=()) == auto


def test_all_begin_when_all_are_ready() -> None:
    """One that is gone is noticed, even if it was ready; the others do not begin then."""
    (ours, theirs), (others, gone) = Pipe(), Pipe()
    theirs.send("ready")
    gone.send("ready")
    _gather([ours, others])

    assert theirs.poll()
    assert gone.poll()

    theirs.recv()
    gone.recv()
    gone.send("ready")
    gone.close()
    with pytest.raises(EOFError):
        _gather([ours, others])

    assert not theirs.poll()


@pytest.mark.slow
def test_two_devices_are_as_good_as_one(workspace: Workspace) -> None:
    """Accuracies differ by less than seeds do; masks, which no training makes, are the same to the bit."""
    (workspace.folder / "small.yaml").write_text(SPEC)
    actual, masks = {}, {}
    for devices in (1, 2):
        each = Workspace(workspace.folder / str(devices))
        each.folder.mkdir()
        (each.folder / "small.yaml").write_text(SPEC)
        ended = each.run("run", "small.yaml", "--json", "--quiet", "--set", f"target.devices={devices}")
        assert 0 == ended.code, ended.err
        actual[devices] = [result["test_accuracy"] for result in ended.json["results"]]
        masks[devices] = each.digests(("mask",))

    assert masks[1] == masks[2]
    assert actual[1] != actual[2]
    assert statistics.fmean(actual[1]) > 50
    assert abs(statistics.fmean(actual[1]) - statistics.fmean(actual[2])) < 2 * max(4.0, statistics.stdev(actual[1]))


@pytest.mark.slow
def test_processes_meet_in_a_temporary_folder_of_any_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL would end at the signs of its path."""
    folder = workspace.folder / "t#m?%41p"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    (workspace.folder / "small.yaml").write_text(SPEC.replace("epochs: 6", "epochs: 1"))
    process = workspace.start("run", "small.yaml", "--quiet", "--set", "target.devices=2", "--set", "seeds=[0]")
    _, err = process.communicate(timeout=200)

    assert 0 == process.returncode, err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to find processes in")
def test_a_part_that_dies_ends_the_step_with_its_reason(workspace: Workspace) -> None:
    """At once, not when a library's patience is over; a rerun goes on."""
    (workspace.folder / "small.yaml").write_text(SPEC.replace("epochs: 6", "epochs: 400"))
    process = workspace.start("run", "small.yaml", "--quiet", "--set", "target.devices=2", "--set", "seeds=[0]")
    end = time.monotonic() + 120
    members: list[int] = []
    while not members and time.monotonic() < end:
        time.sleep(0.2)
        members = [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)]
    time.sleep(6)
    os.kill(members[0], signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=100)

    assert 1 == process.returncode, err
    assert "its process 1 was killed by SIGKILL" in err
    assert 1 == err.count("failed: ")
    assert time.monotonic() - killed < 30


@pytest.mark.slow
def test_a_part_that_dies_before_it_begins_ends_the_step() -> None:
    """At once as well, though nobody has met it."""
    inputs: dict[str, Any] = {"init": Fatal()}
    begun = time.monotonic()
    with (
        pytest.raises(StepError, match="its process 1 exited with code 3"),
        team_of(STEP, inputs, Where("cpu", 2, devices=2)),
    ):
        pass

    assert time.monotonic() - begun < 30


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to find processes in")
def test_an_interrupt_before_they_begin(tmp_path: Path) -> None:
    """Ctrl-C reaches all: the run stops at once, and the others print nothing."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "interrupted.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    end = time.monotonic() + 60
    members: list[int] = []
    while not members and time.monotonic() < end:
        time.sleep(0.05)
        members = [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)]
    os.killpg(process.pid, signal.SIGINT)

    assert ("stopped\n", "") == process.communicate(timeout=30)
    assert not any("spawn_main" in _command(pid) for pid in members)


@pytest.mark.slow
def test_what_fails_in_all_parts_is_told_as_of_one(tmp_path: Path) -> None:
    """A damaged input is made again; a training that diverges says so once, with its hint."""
    (tmp_path / "small.yaml").write_text(SPEC.replace("lr: 0.05", "lr: 1.0e+9").replace("snip", "random"))
    printed = Spoiler(tmp_path)
    plan = compiled(tmp_path / "small.yaml", "training.epochs=1", "seeds=[0]")
    with pytest.raises(StepError) as caught:
        Execution(plan, Store(tmp_path), printed, placement=Where("cpu", 2, devices=2)).run()

    assert 1 == caught.value.message.count("failed: ")
    assert "` failed: training diverged: " in caught.value.message
    assert "lower `training.lr`" == caught.value.hint
    assert 1 == len(printed.notes)
    assert "masks.safetensors differs from the published file" in printed.notes[0]


def _children(pid: int) -> list[int]:
    result = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            result.append(int(path.parent.name))
    return result


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
