"""Keys in other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.plans import DIGITS
from tests.unit.planning.test_keys import digits, keys

SCRIPT = """
import json, sys
from pathlib import Path
from autosparse.backends import Machine
from autosparse.planning.compile import compile_plan
from autosparse.spec import load_spec, resolve

machine = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
plan = compile_plan(resolve(load_spec(Path(sys.argv[1])).spec, machine), "digits")
heavy = ("torch", "torchvision", "optuna", "sklearn", "scipy", "numpy", "rich", "typer", "safetensors")
print(json.dumps({
    "keys": {name: step.key for name, step in plan.steps.items()},
    "heavy": [name for name in heavy if name in sys.modules],
}))
"""


def test_keys_are_the_same_in_every_process_and_need_no_torch(tmp_path: Path) -> None:
    """Hash seed, time zone, language and directory do not reach a key; compiling imports nothing heavy."""
    expected = keys(digits())
    for number, (seed, zone, language) in enumerate(
        [("0", "UTC", "C"), ("1", "Asia/Tokyo", "C.UTF-8"), ("12345", "America/Lima", "tr_TR.UTF-8")]
    ):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        ended = json.loads(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, str(DIGITS)],
                cwd=folder,
                env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": language},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )

        assert expected == ended["keys"]
        assert [] == ended["heavy"]
