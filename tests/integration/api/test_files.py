"""Files that one process writes and another reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import autosparse
from autosparse import Masks
from tests.unit.api.conftest import batches, network
from tests.unit.api.test_load import left_by_a_run, rewritten, tensors


def test_a_file_gives_the_masks_back(tmp_path: Path) -> None:
    """Saved masks are read in a fresh process and fit a model built there; equal masks are equal bytes."""
    model = network()
    masks = autosparse.prune(model, batches(), sparsity=0.9, method="snip")
    masks.save(tmp_path / "masks.safetensors")
    masks.save(str(tmp_path / "again.safetensors"))
    program = (
        "import sys, json, autosparse; masks = autosparse.Masks.load(sys.argv[1]);"
        "print(json.dumps({name: mask.int().tolist() for name, mask in masks.items()}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "masks.safetensors")], capture_output=True, text=True, check=True
    )

    assert {name: mask.int().tolist() for name, mask in masks.items()} == json.loads(ended.stdout)
    assert masks == Masks.load(tmp_path / "masks.safetensors")
    assert (tmp_path / "masks.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert ["again.safetensors", "masks.safetensors"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are told in other units elsewhere")
def test_a_damaged_file_is_told_in_little_memory(tmp_path: Path) -> None:
    """A shape of a terabyte: exit 4, one line and its hint, and hardly more memory than a sound file takes."""
    program = f"""
import resource
from autosparse.cli import main
try:
    main(["inspect", {str(tmp_path / "m")!r}, "--json"])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def inspected() -> tuple[int, str, int]:
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stderr, int(ended.stdout.splitlines()[-1])

    left_by_a_run(tmp_path / "m")
    sound = inspected()
    rewritten(tensors(**{"conv1.bias/shape": lambda result: torch.tensor([2**38])}))(tmp_path / "m")
    damaged = inspected()

    assert (0, "", 4) == (*sound[:2], damaged[0])
    assert "damaged" in damaged[1]
    assert "Traceback" not in damaged[1]
    assert damaged[2] < sound[2] + 64_000
