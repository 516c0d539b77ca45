"""One training on several devices: as good as on one, the same masks, and an end with its reason if a part dies."""

from __future__ import annotations

import os
import signal
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.backends import Place as Where
from autosparse.execute.team import _size
from autosparse.plan.together import with_workers
from tests.conftest import Place
from tests.test_together import fitted

SPEC = """\
version: 1
model: {name: resnet8, width: 8}
dataset: digits
budget: 0.8
method: snip
compare: [erk]
controls: []
emit: []
seeds: [0, 1]
irp: {rounds: 1, per_round: 0.5}
training: {epochs: 8, batch: 64, lr: 0.05, crop: 1, flip: false, precision: float32}
target: {device: cpu, threads: 2, workers: 1}
"""


def test_where_there_are_fewer_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs that are not there, and devices that know no team; a CPU has as many processes as are asked for."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    assert [2, 1, 1, 3] == [
        _size(Where(d, 4, devices=n)) for d, n in (("cuda", 2), ("cuda", 3), ("mps", 2), ("cpu", 3))
    ]


def test_workers_and_devices_exclude_each_other(tmp_path: Path) -> None:
    """Workers may not have processes of their own: those that are asked for are lowered, and it is told."""
    auto = with_workers(fitted(tmp_path, "target.devices=2"), 8)
    asked = with_workers(fitted(tmp_path, "target.devices=2", "target.workers=3"), 8)

    assert (1, 1) == (auto.workers, asked.workers)
    assert ["target.workers 3 → 1"] == [str(taken) for taken in asked.taken]
    assert replace(auto, taken=()) == auto


@pytest.mark.slow
def test_two_devices_are_as_good_as_one(place: Place) -> None:
    """Accuracies differ by less than seeds do; masks, which no training makes, are the same to the bit."""
    (place.folder / "small.yaml").write_text(SPEC)
    found, masks = {}, {}
    for devices in (1, 2):
        own = Place(place.folder / str(devices))
        own.folder.mkdir()
        (own.folder / "small.yaml").write_text(SPEC)
        ended = own.run("run", "small.yaml", "--json", "--quiet", "--set", f"target.devices={devices}")
        assert 0 == ended.code, ended.err
        found[devices] = [result["test_accuracy"] for result in ended.json["results"]]
        masks[devices] = own.digests(("mask",))

    assert masks[1] == masks[2]
    assert found[1] != found[2]
    assert statistics.fmean(found[1]) > 50
    assert abs(statistics.fmean(found[1]) - statistics.fmean(found[2])) < 2 * max(4.0, statistics.stdev(found[1]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to find processes in")
def test_a_part_that_dies_ends_the_step_with_its_reason(place: Place) -> None:
    """At once, not when a library's patience is over; a rerun goes on."""
    (place.folder / "small.yaml").write_text(SPEC.replace("epochs: 8", "epochs: 400"))
    process = place.start("run", "small.yaml", "--quiet", "--set", "target.devices=2")
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
    assert "its process 1 was ended by SIGKILL" in err
    assert time.monotonic() - killed < 30


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
