"""What one-shot pruning of a ResNet-50 costs: `python benchmarks/scale.py [CRITERION]...`. 224 px, 8 images, a thread.

Every criterion runs in a process of its own: seconds in all, of which in the network's forward and backward passes, and
the process's peak memory over what it held before there was a model, beside the model and the activations that one
backward pass needs. `prospr:4` is one that takes its images in four parts.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from autosparse import prune
from autosparse.core.criteria import criteria
from autosparse.models import build_model

MODEL, IMAGES, SIDE, SPARSITY = "torchvision:resnet50", 8, 224, 0.95


def main() -> None:
    """A line for every criterion that needs no trained scorer."""
    ready = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds"} & set(entry.facts)]
    names = sys.argv[1:] or [*ready, "prospr:4"]
    print(f"{'criterion':10}  seconds  in passes  beyond  peak memory  of model and activations")
    for name in names:
        child = [sys.executable, __file__, "--one", name]
        found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        beyond, peak = found["seconds"] - found["passes"], found["peak"] / 2**20
        print(
            f"{name:10}  {found['seconds']:7.1f}  {found['passes']:9.1f}  {beyond:6.1f}  {peak:7.0f} MiB"
            f"  {found['peak'] / found['needed']:11.2f}",
            flush=True,
        )


def measure(name: str) -> dict[str, float]:
    """Seconds and bytes of one criterion, in this process."""
    torch.set_num_threads(1)
    empty = _peak()
    model = build_model(MODEL, {}, (3, SIDE, SIDE), 1000)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 1000, (IMAGES,), generator=generator)
    passes = [_timed(torch.autograd, "grad"), _timed(torch.func, "functional_call")]
    name, _, parts = name.partition(":")
    options = {"images": IMAGES} if "images" in criteria[name].options else {}
    options |= {"parts": int(parts)} if parts else {}
    begin = time.perf_counter()
    prune(model, [(images, labels)], sparsity=SPARSITY, method={"criterion": {"name": name, **options}})
    seconds, peak = time.perf_counter() - begin, _peak() - empty
    needed = sum(4 * parameter.numel() for parameter in model.parameters()) + _activations(model, images)
    return {"seconds": seconds, "passes": sum(sum(spent) for spent in passes), "peak": peak, "needed": needed}


def _timed(home: Any, name: str) -> list[float]:
    function: Callable[..., Any] = getattr(home, name)
    spent: list[float] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        spent.append(time.perf_counter() - begin)
        return result

    setattr(home, name, timed)
    return spent


def _activations(model: torch.nn.Module, images: torch.Tensor) -> int:
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            saved[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model.train()(images)
    assert outputs.requires_grad
    return sum(saved.values())


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main()
