"""Facts of a machine without importing torch."""

from __future__ import annotations

import pytest

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
