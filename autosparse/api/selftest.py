"""Self-test of the installation: prune, train and save a small network on a device."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autosparse.api.masks import Masks
from autosparse.api.prune import prune
from autosparse.backends import fitting_threads
from autosparse.lazy_torch import torch
from autosparse.models import build_model

_SPARSITY = 0.9


@dataclass(frozen=True)
class SelfTest:
    """Result of the self-test.

    Attributes:
        device: Tested device.
        seconds: Duration of the test in seconds.
        problem: Reason for the failure in one sentence; empty if the test passed.
    """

    device: str
    seconds: float
    problem: str = ""


def self_test(device: str) -> SelfTest:
    """Prune a ResNet-8 by the bundled scorer, train it three steps, save and load its masks.

    Args:
        device: Device to test, as torch names it: `cpu`, `cuda:0` or `mps`.

    Returns:
        The result; errors of torch count as a failure and are not raised.

    Examples:
        >>> self_test("no-such-device").problem.partition(":")[0]
        'RuntimeError'
    """
    begin = time.perf_counter()
    try:
        with fitting_threads():
            problem = _problem(torch.device(device))
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return SelfTest(device, time.perf_counter() - begin, problem)


def _problem(device: torch.device) -> str:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 8, 8, generator=generator).to(device)
    labels = torch.arange(32, device=device) % 10
    network = build_model("resnet8", {"width": 4}, (1, 8, 8), 10).to(device)
    masks = prune(network, [(images, labels)], _SPARSITY)
    if masks.kept != round((1 - _SPARSITY) * masks.total):
        return f"{masks.kept} of {masks.total} weights are kept"
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    with masks.hold(optimizer):
        for _ in range(3):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if not bool(loss.isfinite()):
            return "the loss is not finite"
        if any(bool(network.get_parameter(name)[~mask].any()) for name, mask in masks.items()):
            return "pruned weights are not zero after training"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.safetensors"
        masks.save(path)
        same = Masks.load(path) == masks
    return "" if same else "the loaded masks differ from the saved ones"
