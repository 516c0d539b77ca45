"""Memory of processes."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from autosparse.backends import resident_memory

FAULTS = """
import resource
import torch
from autosparse.backends import Placement, local

def faults():
    step = lambda: [torch.ones(2_000_000) for _ in range(20)]
    step()
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

before = faults()
local(Placement("cpu", 1)).prepare()
faults()
print(before, min(faults() for _ in range(5)))  # the system may take pages back at any time
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_memory_that_is_freed_is_kept_for_the_next_tensor() -> None:
    """160 MB are 40,000 pages that a training would otherwise ask the system for, step by step."""
    printed = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout
    before, after = map(int, printed.split())

    assert after < 4_000
    assert before > 10 * after or before < 4_000  # where the environment has asked for the same


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_of_processes_that_were_begun() -> None:
    """The memory of workers counts as memory of the run."""
    begun = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        alone, together = resident_memory(), resident_memory(children=True)
        process.kill()

    assert together > alone + 2**20
