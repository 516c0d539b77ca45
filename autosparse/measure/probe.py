"""Probe of the machine: the speed of work that depends on no network, measured for a moment.

Rates are seconds a unit, by the units of steps/workload.py, and `_bytes` an image.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autosparse.backends import Placement, resident_memory, system_load
from autosparse.core.evidence import Evidence
from autosparse.core.features import Features, columns_of
from autosparse.core.images import Images
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.selection import keep_top
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.weights import Tensors, describe_layers
from autosparse.lazy_torch import torch
from autosparse.measure.timing import CLOCKS, Clocks, Timer
from autosparse.models import Shape

Rates = dict[str, float]

MACHINE_LIMIT = 4.0
"""Maximum wall seconds for the rates that are independent of the network."""

STARTUP = 3.0
"""Usual seconds of importing torch and starting its threads."""

USUAL_BASE = 400 * 2**20
"""Usual bytes of a process that has imported torch and measured a small network; 340 MiB are too few."""

_MOMENT = 0.1  # seconds of repetition for each kind of work
_WEIGHTS = 300_000
_STEPS = 20  # updates of a scorer
_USUAL = {  # seconds a unit on a usual machine, for units that are not measured
    "select": 1e-8, "scorer": 2e-3, "predict": 1e-7, "step": 0.01, "bytes": 1e-9,
    # Until a dataset of the kind has been read: import of libraries, and JPEG at 70 MB of pixels a second.
    "open": 1.0, "decoded": 1.5e-8,
    "seconds": 1.0,  # of work with a fixed duration
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """Rates by unit with the load while they were measured; `derived` units are estimated from counted work.

    `slowdown` is the wall time of the measured work over its time on an idle machine, `load` the mean number of
    processes that wanted a core.
    """

    rates: Rates
    derived: tuple[str, ...] = ()
    slowdown: float = 1.0
    load: float = 0.0


def probe_machine(
    placement: Placement,
    scorer: str,
    options: Mapping[str, Any],
    *,
    limit: float = MACHINE_LIMIT,
    clocks: Clocks = CLOCKS,
) -> Measurement:
    """Return rates independent of the network: of the store, of selection, and of learning a scorer."""
    device, host = torch.device(placement.device), torch.device("cpu")
    timer = Timer(device, limit, clocks)
    random = torch.Generator().manual_seed(0)
    values = torch.rand(_WEIGHTS, generator=random).to(device)
    steps = _STEPS if "steps" in options else 1  # or a closed form
    tables = random_tables(scorer, options, device)
    pieces: dict[str, Callable[[], float]] = {
        "step": lambda: 3 * Timer(host, timer.left, clocks).least(_publish, _MOMENT),
        "select": lambda: timer.least(lambda: keep_top(values, _WEIGHTS // 10), _MOMENT) / _WEIGHTS,
        "scorer": lambda: timer.least(lambda: learn_scorer(scorer, options, tables, steps), _MOMENT) / steps,
        "predict": lambda: timer.least(_predictor(scorer, options, tables), _MOMENT) / len(tables.values["0"]),
        "bytes": lambda: Timer(host, timer.left, clocks).least(lambda: hashlib.sha256(bytes(2**22)), _MOMENT) / 2**22,
    }
    rates: Rates = {}
    for unit, measure in pieces.items():
        if timer.left > 0:
            rates[unit] = measure()
    derived = tuple(unit for unit in pieces if unit not in rates)
    return Measurement({**_USUAL, **rates}, derived, timer.slowdown, system_load())


def count_machine(slowdown: float) -> Measurement:
    """Return usual rates instead of measured ones, and usual sizes of a process, without importing torch."""
    rates = {"startup": STARTUP, "base": float(USUAL_BASE), "private": USUAL_BASE / 2, **_USUAL}
    return Measurement(rates, tuple(_USUAL), slowdown, system_load())


def _predictor(scorer: str, options: Mapping[str, Any], tables: Features) -> Callable[[], object]:
    state, table = learn_scorer(scorer, options, tables, 1), Features(tables.columns, {"0": tables.values["0"]})
    return lambda: scorers[scorer].facts["predict"](state, table)


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


def clock(work: Callable[[], object], device: torch.device) -> float:
    """Return the wall seconds that a call takes on a device."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _publish() -> None:
    # The fixed cost of a step: files written, flushed and moved.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact"
        with path.open("wb") as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        path.replace(Path(folder) / "published")
