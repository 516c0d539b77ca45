"""What is known of a machine without importing torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autosparse.backends import resident_memory
from autosparse.backends.machine import gains_by_bfloat16


@pytest.mark.parametrize(
    ("flags", "vendor", "gains"),
    [
        ({"avx512f", "avx512_bf16"}, "AuthenticAMD", True),
        ({"avx512f", "avx512_bf16", "amx_bf16"}, "GenuineIntel", True),
        ({"avx512f", "avx512_bf16"}, "GenuineIntel", False),
        ({"asimd", "bf16"}, "", True),
        ({"avx512f"}, "AuthenticAMD", False),
    ],
)
def test_precision_auto_is_what_a_processor_gains_by(flags: set[str], vendor: str, gains: bool) -> None:
    """Having the instructions is not enough: without AMX, Intel's are slower than those of float32."""
    assert gains == gains_by_bfloat16(flags, vendor)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_of_processes_that_were_begun() -> None:
    """What workers hold is part of what a run holds."""
    begun = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        alone, together = resident_memory(), resident_memory(children=True)
        process.kill()

    assert together > alone + 2**20
