"""The plain loop's images a second, in a process as anybody's: `python -m autosparse.measure.reference_process`.

A request in JSON a line, an answer a line.
It ends with the process that began it, which closes its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from autosparse.core.training.loop import Recipe
from autosparse.lazy_torch import torch
from autosparse.measure.probe import clock, made_up_images
from autosparse.measure.reference_loop import WARM_UP, train_plainly
from autosparse.models import build_model


def main() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what own code prints is no answer
        for line in sys.stdin:
            answers.write(f"{_rate(json.loads(line))}\n")
            answers.flush()


def _rate(request: Mapping[str, Any]) -> float:
    torch.set_num_threads(request["threads"])
    device, steps, recipe = torch.device(request["device"]), request["steps"], Recipe(epochs=1, batch=request["batch"])
    shape, classes = tuple(request["shape"]), request["classes"]
    images = made_up_images((WARM_UP + steps) * recipe.batch, shape, classes, device)
    model = build_model(request["name"], request["options"], shape, classes).to(device)
    begun = 0.0

    def observe(step: int) -> None:
        nonlocal begun
        if step == WARM_UP:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begun = time.perf_counter()

    clock(lambda: train_plainly(model, images, recipe, readers=request["readers"], observe=observe), device)
    return float(steps * recipe.batch / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
