"""The workaround for a kernel that writes past its memory, in a process that dies without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CASE = """
import torch
from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

torch.set_num_threads(3)
network = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 1, 2, bias=False)).to(memory_format=torch.channels_last)
avoid_narrow_strides(network)
for _ in range(40):
    images = torch.randn(8, 8, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    network(images).sum().backward()
"""


@pytest.mark.slow
def test_gradients_in_several_threads_do_not_end_the_process() -> None:
    """Without the way around it, torch 2.14.1 dies here of a segmentation fault on a CPU with AVX-512."""
    done = subprocess.run([sys.executable, "-c", CASE], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
