"""Probes of the machine: speed and memory of each kind of work, measured for a moment on synthetic images.

Rates are seconds a unit, by the units of steps/workload.py, and `_bytes` an image.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import util
from itertools import pairwise
from pathlib import Path
from typing import Any

from autosparse.backends import PeakMemory, Placement, release_memory, resident_memory
from autosparse.core.evidence import Evidence
from autosparse.core.features import Features, Position, Seen, columns_of, table_layers
from autosparse.core.graph.connectivity import effective
from autosparse.core.images import Images
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.selection import keep_top
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.training.loop import Recipe, accuracy, train
from autosparse.core.weights import Tensors, describe_layers, prunable_weights
from autosparse.errors import AutosparseError, UsageError
from autosparse.lazy_torch import torch
from autosparse.models import Shape
from autosparse.models.facts import Network, NetworkFacts

Rates = dict[str, float]

_MOMENT = 0.25  # seconds of repetition for each kind of work
_SLOW = 1.0  # maximum seconds of one batch
_WEIGHTS = 300_000
_LEFT = 0.02  # share of weights in the sparse probe
_GROUPS = ("magnitude", "gradient", "sensitivity", "channels", "layer")
_SEEN, _PAPER = 32, 1.3  # images for which memory is measurable; ratio of real to estimated memory


def probe_machine(placement: Placement, scorer: str, options: Mapping[str, Any]) -> Rates:
    """Return rates independent of the network: of the store, of selection, and of learning a scorer."""
    device = torch.device(placement.device)
    random = torch.Generator().manual_seed(0)
    values = torch.rand(_WEIGHTS, generator=random).to(device)
    steps = 50 if "steps" in options else 1  # or a closed form
    tables = random_tables(scorer, options, device)
    state, table = learn_scorer(scorer, options, tables, 1), Features(tables.columns, {"0": tables.values["0"]})
    return {
        "select": _timed(lambda: keep_top(values, _WEIGHTS // 10), device) / _WEIGHTS,
        "scorer": _timed(lambda: learn_scorer(scorer, options, tables, steps), device) / steps,
        "predict": _timed(lambda: scorers[scorer].facts["predict"](state, table), device) / len(table.values["0"]),
        "step": _publishing(),
        "bytes": _timed(lambda: hashlib.sha256(bytes(2**22)), torch.device("cpu")) / 2**22,
        # Guesses, until a dataset of the kind has been read: import of libraries, and JPEG at 70 MB of pixels a second.
        "open": 1.0,
        "decoded": 1.5e-8,
    }


def learn_scorer(name: str, options: Mapping[str, Any], tables: Features, steps: int) -> Tensors:
    """Fit a scorer to tables in `steps`, if it takes any, for timing: the state is as fast as any other."""
    entry = scorers[name]
    given, _ = entry.apart(options)
    shares = {layer: table[:, 0] for layer, table in tables.values.items()}
    asked = {**given, "steps": steps} if "steps" in given else given
    state: Tensors = entry.function(tables, shares, torch.Generator(), **asked)
    return state


def random_tables(name: str, options: Mapping[str, Any], device: torch.device) -> Features:
    """Return random features of eight layers, in the columns that a scorer uses."""
    random = torch.Generator().manual_seed(0)
    columns = columns_of(groups_of(name, options))
    return Features(
        columns, {str(layer): torch.rand(4000, len(columns), generator=random).to(device) for layer in range(8)}
    )


def probe_network(network: Network, batch: int, precision: str, kernels: str, placement: Placement) -> Rates:
    """Return rates of one network: trained by dense and other available kernels, evaluated, differentiated, described.

    A smaller batch replaces one that takes over a second; its memory is then the network's saved bytes on paper.
    """
    device, facts = torch.device(placement.device), network.facts

    def some(count: float) -> Images:
        return made_up_images(max(2, int(count)), network.shape, network.classes, device)

    begin = time.perf_counter()
    with seeded(0):
        model = network.build()
    build = time.perf_counter() - begin
    model = model.to(device)
    images = some(min(batch, 8))
    recipe = Recipe(epochs=1, batch=len(images), crop=0, precision=precision)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    train(model, images, recipe, random)
    first = clock(lambda: train(model, images, recipe, random), device) / len(images)
    size = max(2, min(batch, int(_SLOW / first)))
    full, recipe = some(size), replace(recipe, batch=size)
    once = clock(lambda: train(model, full, recipe, random), device)
    epochs = max(1, min(50, int(_MOMENT / once)))  # excludes the one-time costs of a training
    recipe = replace(recipe, epochs=epochs)
    used: Rates = {"build": build}
    used["train"], used["train_bytes"] = _measured(lambda: train(model, full, recipe, random), size, device)
    used["train"] /= epochs
    if kernels == "sparse" and util.find_spec("numba"):
        masks = {n: torch.rand(w.shape, generator=random) < _LEFT for n, w in prunable_weights(model).items()}
        sparse = replace(recipe, kernels="sparse")
        train(model, full, replace(sparse, epochs=1), random, masks=masks)
        seconds, held = _measured(lambda: train(model, full, sparse, random, masks=masks), size, device)
        used["sparse"] = seconds / epochs
        used["train_bytes"] = max(used["train_bytes"], held)  # it saves float32 activations
    elif kernels == "compiled":
        used |= (extra := _compiled(partial(train, model, full), recipe, used["train"], device))
        if extra and size < batch:  # torch then has the compiled network on disk for the run, too
            real = replace(recipe, batch=batch, epochs=1, kernels="compiled")
            train(model, some(batch), real, random)
    # Parameters, gradients, momentum and the loaded state are counted elsewhere.
    used["train_bytes"] = max(0.0, used["train_bytes"] - 5 * 4.0 * facts.parameters / size)
    if size < min(batch, _SEEN):
        used["train_bytes"] = _PAPER * facts.saved_bytes * (0.5 if precision == "bfloat16" else 1)
    evaluated, scored = (some(min(256, seconds / first)) for seconds in (2 * _SLOW, _SLOW))
    return used | _scoring(model, evaluated, scored, facts, precision)


def _scoring(model: torch.nn.Module, evaluated: Images, scored: Images, facts: NetworkFacts, precision: str) -> Rates:
    # Rates of forward passes, gradients, passes of ones and feature tables.
    device, used = evaluated.labels.device, dict[str, float]()
    used["forward"], used["forward_bytes"] = _measured(
        lambda: accuracy(model, evaluated, precision, batch=len(evaluated)), len(evaluated), device
    )
    evidence = evidence_of(model, scored)
    number = len(scored)
    used["gradient"], used["gradient_bytes"] = _measured(
        lambda: evidence.gradient(evidence.weights, evidence.draw(number)), number, device
    )
    used["gradient_bytes"] = max(0.0, used["gradient_bytes"] - 2 * 4.0 * facts.parameters / number)
    if number < _SEEN:
        used["gradient_bytes"] = _PAPER * facts.saved_bytes
    if len(evaluated) < _SEEN:
        used["forward_bytes"] = 3.0 * facts.live_bytes
    try:
        used["flow"] = _timed(lambda: effective(evidence), device)
    except UsageError:  # its paths cannot be followed, as a run reports; finding out takes about as long
        used["flow"] = used["gradient"]
    small = [layer for layer in evidence.layers if layer.size <= _WEIGHTS] or list(evidence.layers)[:1]
    few = small[len(small) // 2 :][:3]
    weights = sum(layer.size for layer in few)
    there = Position(0, len(few), facts.total)
    seen = [Seen(layer, there, evidence.weights[layer.name], evidence.weights[layer.name]) for layer in few]
    used["features"] = _timed(lambda: [*table_layers(seen, _GROUPS)], device) / weights
    return used


def _compiled(train: Callable[..., object], recipe: Recipe, dense: float, device: torch.device) -> Rates:
    # Seconds to compile with torch's cache filled, and the speed-up: from whole epochs after the first,
    # alternating with the dense kernels, which take `dense` seconds an image.
    epochs, steps = max(4, int(recipe.epochs)), dict[str, float]()

    def epoch(kernels: str) -> float:
        begin, ends = time.perf_counter(), list[float]()

        def observe(*_: object) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ends.append(time.perf_counter())

        train(replace(recipe, epochs=epochs, kernels=kernels), torch.Generator(), observe=observe)  # type: ignore[arg-type]
        step = min(b - a for a, b in pairwise(ends))
        steps[kernels] = min(step, steps.get(kernels, step))
        return max(0.0, ends[0] - begin - step)

    try:
        epoch("compiled")
    except AutosparseError:
        return {}
    seconds = [(epoch("dense"), epoch("compiled"))[1] for _ in range(2)]
    return {"compiled": dense * steps["compiled"] / steps["dense"], "compiling": min(seconds)}


def resident(placement: Placement) -> int:
    """Return the bytes that a process holds before its first step."""
    return 0 if placement.device.startswith("cuda") else resident_memory()


def made_up_images(count: int, shape: Shape, classes: int, device: torch.device) -> Images:
    """Return images with random pixels, and the classes in rotation."""
    channels, height, width = shape
    random = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=random)
    labels = torch.arange(count) % classes
    return Images(pixels, labels, torch.full((channels,), 0.5), torch.full((channels,), 0.3)).to(device)


def evidence_of(model: Any, images: Images) -> Evidence:
    """Return evidence about a network: one batch of all images, in the layout that it takes."""
    images = images_for(model, images)
    example = images.normalize(images.pixels[:1])  # type: ignore[index]
    batch = (images.normalize(images.pixels[:]), images.labels)  # type: ignore[index]
    return Evidence.dense(
        model, describe_layers(model, example), lambda count: [batch], torch.Generator(), lambda: example
    )


def _measured(work: Callable[[], object], images: int, device: torch.device) -> tuple[float, float]:
    # Seconds and bytes of memory an image.
    release_memory()
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_memory()
    peak = PeakMemory(str(device))
    seconds = clock(work, device)
    held = (peak.bytes or before) - before
    return (seconds if seconds > _MOMENT else _timed(work, device)) / images, max(0.0, held) / images


def _timed(work: Callable[[], object], device: torch.device) -> float:
    # Seconds a call: the median of the calls within _MOMENT, after one warm-up.
    first = clock(work, device)
    if first > _MOMENT:
        return first
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < _MOMENT and len(seconds) < 200):
        seconds.append(clock(work, device))
    return sorted(seconds)[len(seconds) // 2]


def clock(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes on a device."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _publishing() -> float:
    # The fixed cost of a step: files written, flushed and moved.
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            path = Path(folder) / "artifact"
            with path.open("wb") as file:
                file.write(b"0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            path.replace(Path(folder) / "published")

        return 3 * _timed(write, torch.device("cpu"))
