"""A plan depends on the spec, the store and the machine: not on where, when or in which language it is made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Workspace

# As another terminal would have it: directory, hash seed, time zone, language.
ELSEWHERE = [
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland"},
    {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "America/Caracas"},
    {"LC_ALL": "C", "PYTHONUTF8": "1", "HOME": "/nonexistent"},
]
MOMENTARY = ("slowdown", "present_seconds_low", "present_seconds_high", "disk_free_bytes")


@pytest.mark.slow
def test_a_plan_is_the_same_from_everywhere(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """All of `plan --json` but the load and the free disk space: statuses, reasons and prices included."""
    workspace, _ = finished
    spec = tmp_path / "edited.yaml"
    text = (workspace.folder / "small.yaml").read_text(encoding="utf-8")
    spec.write_text(text.replace("epochs: 1", "epochs: 2").replace("[0.8, 0.9]", "[0.8, 0.85]"), encoding="utf-8")
    result: dict[str, Any] = {}
    for number, changed in enumerate(ELSEWHERE):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        ended = subprocess.run(
            [sys.executable, "-m", "autosparse", "plan", str(spec), "--json", "--quiet"],
            cwd=folder,
            env={**workspace.environment, **changed},
            capture_output=True,
            check=True,
        )
        document = json.loads(ended.stdout)
        for name in MOMENTARY:
            del document["summary"][name]
        result[json.dumps(document)] = changed

    assert 1 == len(result), list(result.values())
    plan = json.loads(next(iter(result)))
    assert {"run", "reuse"} == {step["status"] for step in plan["steps"]}
    assert all(step["estimate"]["seconds"] for step in plan["steps"])


def test_what_has_run_is_reused_from_everywhere(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """The very spec, copied to another directory under another name."""
    workspace, _ = finished
    spec = tmp_path / "copy.yaml"
    spec.write_text((workspace.folder / "small.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "autosparse", "plan", str(spec), "--json", "--quiet"],
        cwd=tmp_path,
        env={**workspace.environment, "TZ": "Asia/Tokyo"},
        capture_output=True,
        check=True,
    )

    assert {"reuse"} == {step["status"] for step in json.loads(ended.stdout)["steps"]}
