"""Cost of one-shot pruning of a ResNet-50: `python benchmarks/scale.py [CRITERION]...`. 224 px, 8 images, one thread.

Every criterion runs in a separate process. Columns: total seconds, seconds in the network's forward and backward
passes, and peak memory above the process without a model, also relative to the model and the activations of one
backward pass. `prospr:4` takes its images in four microbatches.
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
from records import append

from autosparse import prune
from autosparse.core.criteria import criteria
from autosparse.models import build_model

MODEL, IMAGES, SIDE, SPARSITY = "torchvision:resnet50", 8, 224, 0.95


def main() -> None:
    """Print a line for every criterion that needs no trained scorer."""
    ready = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds"} & set(entry.facts)]
    names = sys.argv[1:] or [*ready, "prospr:4"]
    print(f"{'criterion':10}  seconds  in passes    rest  peak memory  of model and activations")
    for name in names:
        child = [sys.executable, __file__, "--one", name]
        cost = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        rest, peak, times = cost["seconds"] - cost["passes"], cost["peak"] / 2**20, cost["peak"] / cost["needed"]
        print(
            f"{name:10}  {cost['seconds']:7.1f}  {cost['passes']:9.1f}  {rest:6.1f}  {peak:7.0f} MiB  {times:11.2f}",
            flush=True,
        )
        criterion, _, parts = name.partition(":")
        append("scale", [{
            "measure": "one-shot pruning", "network": MODEL, "images": IMAGES, "side": SIDE, "sparsity": SPARSITY,
            "criterion": criterion, "microbatches": int(parts or 1), "seconds": round(cost["seconds"], 2),
            "pass_seconds": round(cost["passes"], 2), "peak_mib": round(peak),
            "over_model_and_activations": round(times, 3),
        }])  # fmt: skip


def measure(name: str) -> dict[str, float]:
    """Return the seconds and bytes of one criterion, in this process."""
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
