"""Facts of a machine without importing torch."""

from __future__ import annotations

import pytest

from autosparse.backends.machine import gains_by_bfloat16, processor_name


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


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"sse2", "avx2"}, "AMD EPYC (AVX2)"),
        ({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, "AMD EPYC (AVX2 AVX-512 VNNI bfloat16)"),
        ({"fp", "asimd"}, "AMD EPYC"),
    ],
)
def test_processors_of_one_name_differ_by_their_instructions(flags: set[str], expected: str) -> None:
    """Virtual machines give many processors the same name; latency tables and rates are not shared among them."""
    assert expected == processor_name("AMD EPYC", flags)
