"""A training that is killed continues from its checkpoint, with the bytes of an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
version: 1
model: lenet
dataset: digits
budget: 0.9
method: {{preset: {preset}, updates: {updates}}}
target: {{device: cpu, threads: 1, workers: 1}}
training: {{epochs: 16, batch: 32, lr: 0.05, precision: float32}}
compare: []
controls: []
emit: []
"""
OFTEN = """\
import sys
from autosparse.store import checkpoint
checkpoint.EVERY = 0.0  # after every step
from autosparse.cli import main
sys.exit(main())
"""
UPDATES = {"rigl": "{name: drop_and_grow, every: 20}", "gmp": "gradual"}


def started(folder: Path, cache: str, command: str = "run") -> subprocess.Popen[str]:
    """`autosparse run` in a child process that saves a checkpoint after every step."""
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": str(folder / cache), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", OFTEN, command, "spec.yaml", "--json", "--quiet"]
    return subprocess.Popen(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def artifacts(folder: Path, cache: str) -> dict[str, Any]:
    """The digests of every artifact's files, by key."""
    paths = (folder / cache / "artifacts").glob("*/*/artifact.json")
    return {path.parent.name: json.loads(path.read_text())["files"] for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("preset", UPDATES)
def test_a_killed_sparse_training_continues_with_the_same_bytes(tmp_path: Path, preset: str) -> None:
    """Kill -9 in the middle: the plan says `resume`, the rerun ends with equal artifacts, and the checkpoint goes."""
    (tmp_path / "spec.yaml").write_text(SPEC.format(preset=preset, updates=UPDATES[preset]))
    whole = started(tmp_path, "whole")
    _, errors = whole.communicate(timeout=300)
    assert 0 == whole.returncode, errors

    killed = started(tmp_path, "killed")
    folder, end = tmp_path / "killed" / "checkpoints", time.monotonic() + 300
    while not [*folder.glob("*.checkpoint")] and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert 1 == len([*folder.glob("*.checkpoint")])
    planned = started(tmp_path, "killed", "plan")
    steps = {step["name"]: step for step in json.loads(planned.communicate(timeout=300)[0])["steps"]}
    training = next(step for name, step in steps.items() if name.startswith("train/"))

    again = started(tmp_path, "killed")
    output, errors = again.communicate(timeout=300)

    assert "resume" == training["status"]
    assert "its training has a checkpoint" == training["reason"]
    assert 0 == again.returncode, errors
    assert 1 == json.loads(output)["steps"]["resume"]
    assert artifacts(tmp_path, "whole") == artifacts(tmp_path, "killed")
    assert [] == [*folder.glob("*.checkpoint")]
