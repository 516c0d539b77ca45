"""Simulated schedules of a large plan on 1 to 256 workers: `python benchmarks/scheduling.py [PLOT.svg]`.

The plan of a comparison of two thousand steps (IRPs, trials, masks, trainings, evaluations of eight methods at four
budgets and eighteen seeds) is scheduled as runs do it, with the cost of each step on digits. The first lower bound is
the longest chain of steps, or all work divided among the workers. The tighter bound also counts the work that cannot
start before a given time, such as all steps that wait for the scorer.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import altair as alt
from records import append

from autosparse.backends import this_machine
from autosparse.html.charts import Plot, colours_of, data_of, plot_of
from autosparse.html.render import svg_of
from autosparse.planning.compile import compile_plan
from autosparse.planning.graph import makespan
from autosparse.planning.model import Plan
from autosparse.spec import load_spec, resolve

SPEC = """\
version: 1
model: {name: resnet8}
dataset: digits
budget: [0.9, 0.95, 0.98, 0.99]
irp: {rounds: 16, per_round: 0.25, seeds: [100, 101]}
tuning: {trials: 40}
compare: [random, erk, magnitude, snip, grasp, synflow, npb, dense]
seeds: [%s]
"""
SECONDS = {"data": 1.0, "init": 0.1, "irp": 12.0, "label": 0.5, "trial": 2.0, "tune": 0.1, "scorer": 0.5, "mask": 1.0,
           "train": 12.0, "evaluate": 0.5, "emit": 3.0}  # fmt: skip


def plan_of(seeds: int) -> Plan:
    """Return the plan of the comparison at a number of seeds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.yaml"
        path.write_text(SPEC % ", ".join(map(str, range(seeds))))
        loaded = load_spec(path)
    return compile_plan(resolve(loaded.spec, this_machine()), loaded.name)


def longest(plan: Plan, seconds: dict[str, float]) -> float:
    """Return the seconds of the longest chain of steps."""
    until: dict[str, float] = {}
    for step in plan.steps.values():
        until[step.name] = seconds[step.name] + max((until[name] for name in step.inputs.values()), default=0.0)
    return max(until.values())


def released(plan: Plan, seconds: dict[str, float], workers: int) -> float:
    """Return the tighter bound in seconds: for every time, that time and the work that cannot start earlier."""
    begin: dict[str, float] = {}
    for step in plan.steps.values():
        begin[step.name] = max((begin[name] + seconds[name] for name in step.inputs.values()), default=0.0)
    late, best = 0.0, 0.0
    for name in sorted(begin, key=lambda name: -begin[name]):
        late += seconds[name]
        best = max(best, begin[name] + late / workers)
    return best


def main(plot: str = "") -> None:
    """Print a line for every number of workers; draw them if a file is named."""
    plan = plan_of(18)
    chance = random.Random(0)
    seconds = {s.name: SECONDS[s.operation] * chance.uniform(0.7, 1.3) for s in plan.steps.values()}
    work, chain = sum(seconds.values()), longest(plan, seconds)
    print(f"{len(plan.steps)} steps, {work:.0f} s of work, the longest chain {chain:.0f} s")
    rows, records = [], []
    for workers in (2**power for power in range(9)):
        span = makespan(plan.steps.values(), seconds, workers)
        bound = max(chain, work / workers)
        tighter = max(bound, released(plan, seconds, workers))
        rows.append((workers, span, bound))
        ratios = f"{span / bound:.3f} times the bound of {bound:>8.1f} s, {span / tighter:.3f} times {tighter:>8.1f} s"
        print(f"{workers:>4} workers {span:>9.1f} s, {ratios}")
        records.append({
            "measure": "schedule", "steps": len(plan.steps), "work_seconds": round(work),
            "longest_chain_seconds": round(chain), "workers": workers, "seconds": round(span, 1),
            "over_bound": round(span / bound, 3), "bound_seconds": round(bound, 1),
            "over_tighter_bound": round(span / tighter, 3), "tighter_bound_seconds": round(tighter, 1),
        })  # fmt: skip
    append("scheduling", ({**record, "machine": "simulated"} for record in records))
    if plot:
        Path(plot).write_text(svg_of(chart(rows).file_spec), encoding="utf-8")


def chart(rows: list[tuple[int, float, float]]) -> Plot:
    """Return seconds against workers, both logarithmic: the schedule and its lower bound."""
    names = ["schedule", "lower bound"]
    values = [
        {"series": name, "workers": workers, "seconds": seconds}
        for workers, *both in rows
        for name, seconds in zip(names, both, strict=True)
    ]
    colour, shape = colours_of(names)
    ticks = alt.Axis(values=[workers for workers, *_ in rows])
    base = alt.Chart(data_of(values)).encode(
        x=alt.X("workers:Q", scale=alt.Scale(type="log", base=2, nice=False, padding=14), axis=ticks, title="workers"),
        y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"), title="seconds"),
        color=colour,
    )
    layers = alt.layer(base.mark_line(), base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape))
    note = "The bound is the longest chain of steps, or all work divided among the workers."
    return plot_of("Seconds of a plan of two thousand steps", note, layers, 340, names)


if __name__ == "__main__":
    main(*sys.argv[1:])
