"""Growth of run time with size: `python benchmarks/growth.py [OUT.svg]`, one thread; the plot needs the extra `plots`.

Sizes are weights from a million to a hundred million (masks of a multilayer perceptron, and writing and reading them),
images, rounds of IRP, and steps of a plan. The exponent b of seconds = a size^b is fitted by least squares of the
logarithms over the larger half of the sizes, where constant costs are negligible. Linear growth has exponent 1.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from records import append

import autosparse
from autosparse.backends import this_machine
from autosparse.core.images import epoch
from autosparse.core.irp import irp_round, keep_after, prune_survivors
from autosparse.core.training.loop import accuracy
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights, total_of
from autosparse.cost.work import count_work
from autosparse.measure.probe import made_up_images
from autosparse.models import build_model
from autosparse.planning.compile import compile_plan
from autosparse.planning.status import statuses
from autosparse.spec import load_spec, resolve
from autosparse.store import Store

DIGITS = Path(__file__).parent.parent / "specs" / "digits.yaml"
CPU = torch.device("cpu")
WEIGHTS = [1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000]
METHODS: dict[str, Any] = {
    **{name: name for name in ("magnitude", "erk", "snip", "learned")},
    "synflow, a round": {"preset": "synflow", "schedule": "one_shot"},
}
IMAGES = [10_000, 20_000, 40_000, 80_000, 160_000]
ROUNDS = 64
SEEDS = [1, 2, 4, 8, 16, 32, 64]
Points = list[tuple[int, float]]


def main() -> None:
    """Print a line for every series; draw them if a file is named."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Points]] = {}
    for axis, series in {
        "weights": weights, "images": images, "rounds of IRP": rounds, "steps of the plan": steps,
    }.items():  # fmt: skip
        found[axis] = {}
        for name, points in series():
            found[axis][name] = points
            ends = ", ".join(f"{size:,}: {seconds:.3g} s" for size, seconds in points[:: max(1, len(points) // 6)])
            print(f"{axis:18} {name:22} exponent {exponent(points):4.2f}   {ends}", flush=True)
            exact = [(size, round(seconds, 5)) for size, seconds in points]
            row = {"measure": axis, "series": name, "exponent": round(exponent(points), 3), "points": exact}
            append("growth", [row], threads=1)
    if sys.argv[1:]:
        plot(found, Path(sys.argv[1]))


def exponent(points: Points) -> float:
    """Return the slope of the logarithms over the larger half of the sizes."""
    larger = points[len(points) // 2 :]
    sizes, seconds = zip(*larger, strict=True)
    return float(numpy.polyfit(numpy.log(sizes), numpy.log(seconds), 1)[0])


def weights() -> Iterator[tuple[str, Points]]:
    """Time masks at 0.98, the ranking and pruning of a round of IRP, and writing and reading masks."""
    batch = [(torch.randn(16, 64), torch.randint(0, 10, (16,)))]
    ways: dict[str, Callable[[torch.nn.Module], object]] = {
        name: partial(autosparse.prune, batches=batch, sparsity=0.98, method=method) for name, method in METHODS.items()
    }
    ways |= {"IRP, ranks and prunes": _pruned, "written and read": _stored}
    for name, way in ways.items():
        points = []
        for size in WEIGHTS:
            side = int(math.sqrt(size / 4))
            model = torch.nn.Sequential(
                torch.nn.Linear(64, side),
                *(layer for _ in range(4) for layer in (torch.nn.ReLU(), torch.nn.Linear(side, side))),
                torch.nn.ReLU(),
                torch.nn.Linear(side, 10),
            )
            points.append((total_of(prunable_weights(model)), clock(partial(way, model))))
        yield name, points


def _pruned(model: torch.nn.Module) -> None:
    scores = {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}
    prune_survivors(scores, None, round(0.7 * total_of(scores)))


def _stored(model: torch.nn.Module) -> None:
    masks = {name: weight.detach() > 0 for name, weight in prunable_weights(model).items()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        made = store.publish("mask", "0" * 64, lambda draft: draft.write_tensors("masks", masks), dict)
        made.tensors("masks")


def images() -> Iterator[tuple[str, Points]]:
    """Time the batches of an epoch, and a training with its evaluation."""
    model = build_model("lenet", {}, (3, 32, 32), 10)
    ways = {"an epoch of batches": _batches, "a training": partial(_trained, model)}
    for name, way in ways.items():
        points = []
        for size in IMAGES[: None if name.startswith("an") else 3]:
            made = made_up_images(size, (3, 32, 32), 10, CPU)
            points.append((size, clock(lambda made=made, way=way: way(made))))  # type: ignore[misc]
        yield name, points


def _batches(made: autosparse.core.images.Images) -> None:
    for _ in epoch(made, batch=128, crop=4, flip=True, generator=torch.Generator()):
        pass


def _trained(model: torch.nn.Module, made: autosparse.core.images.Images) -> None:
    recipe = Recipe(epochs=1, precision="float32")
    autosparse.core.training.loop.train(model, made, recipe, torch.Generator())
    accuracy(model, made, "float32")


def rounds() -> Iterator[tuple[str, Points]]:
    """Time consecutive rounds of IRP."""
    made = made_up_images(512, (3, 32, 32), 10, CPU)
    initial = build_model("lenet", {}, (3, 32, 32), 10).state_dict()
    total = total_of(prunable_weights(build_model("lenet", {}, (3, 32, 32), 10)))
    masks, points, spent = None, [], 0.0
    for number in range(1, ROUNDS + 1):
        begin = time.perf_counter()
        masks = irp_round(
            lambda: build_model("lenet", {}, (3, 32, 32), 10), initial, masks, keep=keep_after(total, 0.1, number),
            training=made, validation=made, recipe=Recipe(epochs=1, precision="float32"),
            generator=torch.Generator().manual_seed(number),
        ).masks  # fmt: skip
        spent += time.perf_counter() - begin
        points.append((number, spent))
    yield "10 % pruned in each", points


def steps() -> Iterator[tuple[str, Points]]:
    """Time a plan of the digits spec at growing numbers of seeds, in an empty cache: compile, look up, count."""
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for count in SEEDS:
            loaded = load_spec(DIGITS, overrides=(f"seeds={[*range(count)]}",)).spec
            spec = resolve(loaded, this_machine())
            begin = time.perf_counter()
            plan = compile_plan(spec, "digits")
            statuses(plan, Store(Path(folder)))
            count_work(plan)
            points.append((len(plan.steps), time.perf_counter() - begin))
    yield "compiled", points


def clock(work: Callable[[], object]) -> float:
    """Return the seconds of the faster of two calls."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def plot(found: dict[str, dict[str, Points]], path: Path) -> None:
    """Draw seconds against size, both logarithmic, in a panel for each measure."""
    import altair as alt

    from autosparse.html.charts import data_of
    from autosparse.html.render import svg_of
    from autosparse.html.theme import PALETTE, PAPER, SOFT, themed

    panels = []
    for measure, series in found.items():
        rows = [
            {"series": name, "size": size, "seconds": seconds}
            for name, points in series.items()
            for size, seconds in points
        ]
        first, *_ = series.values()
        (smallest, _), (largest, slowest) = first[0], first[-1]
        linear = [{"size": size, "seconds": slowest * size / largest} for size in (smallest, largest)]
        log = alt.Scale(type="log", nice=False)
        axis = alt.Axis(format="~s", tickCount=4)
        x = alt.X("size:Q", scale=log, axis=axis, title=measure)
        y = alt.Y("seconds:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=5), title="seconds")
        colours = alt.Scale(domain=[*series], range=[PALETTE[number % len(PALETTE)] for number in range(len(series))])
        colour = alt.Color("series:N", scale=colours, title=None)
        lines = alt.Chart(data_of(rows)).mark_line(point=len(rows) < 60).encode(x=x, y=y, color=colour)
        reference = alt.Chart(data_of(linear)).mark_line(color=SOFT, strokeDash=[3, 3]).encode(x=x, y=y)
        panels.append(alt.layer(reference, lines).properties(width=300, height=260))
    rows_of_panels = [alt.hconcat(*panels[start : start + 2]) for start in range(0, len(panels), 2)]
    chart = alt.vconcat(*(row.resolve_scale(color="independent") for row in rows_of_panels))
    title = {"text": "Seconds against size, one thread", "subtitle": "Dashed: linear growth"}
    spec = chart.resolve_scale(color="independent").to_dict()
    spec = {**spec, "title": title, "background": PAPER, "config": themed(2)}
    path.write_text(svg_of(spec), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
