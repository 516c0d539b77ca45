"""Numbers on a busy machine: `python benchmarks/busy.py {plan,run,threads,speed,limits,edges} [DATA]`, or `table`.

Other processes are busy loops, as many as `load` says. `plan` prices a ResNet-18 on CIFAR-10 (DATA as in
benchmarks/README.md) and the digits spec in an empty cache; `run` runs the digits spec and compares its ETA with the
truth; `threads` trains ResNet-20 with one thread, with all, and as `target.threads: auto` does; `speed` exports one
network several times; `limits` runs the digits spec in control groups of one core and 1 GiB (version 1, root only);
`edges` runs specs with 17 test images and with random labels. `table` prints the latest rows.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from records import Row, append, latest, read
from runs import SPECS, dataset, settings

from autosparse.backends import this_machine
from autosparse.lazy_torch import WAITING

PLANS, RUNS, TRAININGS, SPEEDS = (0, 4, 12), (0, 4), (0, 2, 4), (0, 0, 0, 0, 0, 8)
SECONDS = 6.0  # of one training
CONTROL = Path("/sys/fs/cgroup")
LIMITS = {"cpu": {"cpu.cfs_quota_us": 100_000}, "memory": {"memory.limit_in_bytes": 2**30}}
NETWORK = ["model=resnet18", "budget=[0.9, 0.98]", "compare=[random, erk, snip, synflow]"]
EXPORT = ["method=snip", "compare=[]", "controls=[]", "seeds=0", "budget=0.95", "training.epochs=1",
          "model={name: resnet8, width: 32}", "emit=[safetensors, compact, shrunk, sparse, onnx]"]  # fmt: skip

TRAIN = """
import sys, time
import torch
from autosparse.backends import Placement, backends
from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.measure.probe import made_up_images
from autosparse.models import build_model
placement = Placement("cpu", int(sys.argv[1]), adaptive=sys.argv[2] == "auto")
network = build_model("resnet20", {}, (3, 32, 32), 10)
images = made_up_images(1024, (3, 32, 32), 10, torch.device("cpu"))
recipe, random = Recipe(epochs=1, batch=128, precision="bfloat16"), torch.Generator()
backend = backends["local"].function(placement)
backend.prepare()
train(network, images, recipe, random)
begin, steps = time.perf_counter(), 0
while (passed := time.perf_counter() - begin) < float(sys.argv[3]):
    backend.run(lambda placed: train(network, images, recipe, random))
    steps += 8
print(128 * steps / passed)
"""
OWN_DATA = """
import torch
random = torch.Generator().manual_seed(0)
def easy():
    labels = torch.arange(217) % 2
    noise = torch.rand(217, 1, 8, 8, generator=random)
    images = 0.9 * labels.view(-1, 1, 1, 1) + 0.01 * noise
    return (images[17:], labels[17:]), (images[:17], labels[:17])
def noise():
    draw = lambda n: (torch.rand(n, 1, 8, 8, generator=random), torch.randint(10, (n,), generator=random))
    return draw(500), draw(300)
"""
EDGES = """
model: {{name: resnet8, width: 8}}
dataset: {{name: "data.py:{name}"}}
budget: 0.8
method: erk
compare: [snip]
training: {{epochs: 8, batch: 32, lr: 0.1, crop: 0, flip: false}}
"""


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep this number of processes busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(1 if processes else 0)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def limited() -> Iterator[list[str]]:
    """Yield the words that start a command in control groups with `LIMITS`."""
    groups = [CONTROL / controller / "autosparse-busy" for controller in LIMITS]
    try:
        for group, values in zip(groups, LIMITS.values(), strict=True):
            group.mkdir(exist_ok=True)
            for file, value in values.items():
                (group / file).write_text(str(value))
        enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        yield ["sh", "-c", f'{enter}; exec "$@"', ""]
    finally:
        for group in groups:
            group.rmdir()


def call(
    *arguments: str, cache: str, before: list[str] | None = None
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Return the seconds and the output of a command in a cache; `before` are words that start it."""
    command = [*(before or []), sys.executable, "-m", "autosparse", *arguments]
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": cache}
    begin = time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return time.perf_counter() - begin, ended


def plan(data: str) -> Iterator[Row]:
    """Price two specs in an empty cache at every load."""
    for spec, values in (("vgg_cifar_parquet", [*NETWORK, dataset(data)]), ("digits", [])):
        for processes in PLANS:
            with tempfile.TemporaryDirectory() as cache, load(processes):
                arguments = ("plan", str(SPECS / f"{spec}.yaml"), "--json", *settings(values))
                seconds, ended = call(*arguments, cache=cache)
            assert ended.returncode == 0, ended.stderr
            summary = json.loads(ended.stdout)["summary"]
            row = {"measure": "plan", "spec": spec, "load": processes, "plan_seconds": round(seconds, 1)}
            yield row | {name: summary[name] for name in ("seconds", "dense_trainings", "slowdown")}


def run() -> Iterator[Row]:
    """Run the digits spec at every load."""
    for processes in RUNS:
        with tempfile.TemporaryDirectory() as folder, load(processes):
            arguments = ("run", str(SPECS / "digits.yaml"), "--out", f"{folder}/run")
            seconds, ended = call(*arguments, cache=f"{folder}/cache")
        assert ended.returncode == 0, ended.stderr
        yield {"measure": "run", "load": processes, "run_seconds": round(seconds, 1), **errors_of_eta(ended.stderr)}


def errors_of_eta(lines: str) -> Row:
    """Return the worst and the median factor between ETA and truth, after a quarter of a run."""
    known = re.findall(r"^(\d\d):(\d\d):(\d\d) .*?(?:ETA unknown|about ([^,\n]+?) left)", lines, re.MULTILINE)
    times = [3600 * int(hour) + 60 * int(minute) + int(second) for hour, minute, second, _ in known]
    begin = times[0]
    times = [at + 86_400 * (at < begin) for at in times]  # after midnight
    end = times[-1]
    factors = [
        max(eta / left, left / eta)
        for at, (*_, text) in zip(times, known, strict=True)
        if text and (left := end - at) >= 5 and at - begin >= 0.25 * (end - begin) and (eta := in_seconds(text))
    ]
    middle = round(statistics.median(factors), 2) if factors else None
    return {"eta_worst_factor": round(max(factors), 2) if factors else None, "eta_median_factor": middle}


def in_seconds(text: str) -> float:
    """Return a duration such as `1 min 20 s`, in seconds."""
    units = {"day": 86_400.0, "h": 3600.0, "min": 60.0, "ms": 0.001, "s": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) ?(day|h|min|ms|s)s?\b", text))


def threads() -> Iterator[Row]:
    """Train at every load, the three ways interleaved."""
    cores = this_machine().cores
    for processes in TRAININGS:
        rates: dict[str, list[float]] = {}
        with load(processes):
            for _ in range(3):
                for name, number in (("one", 1), ("all", cores), ("auto", cores)):
                    rates.setdefault(name, []).append(training_rate(number, name))
        medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
        best = max(medians["one"], medians["all"])
        row = {"measure": "threads", "load": processes, "share_of_best": round(medians["auto"] / best, 3)}
        yield row | {f"images_per_second_{name}": value for name, value in medians.items()}


def training_rate(number: int, name: str) -> float:
    """Return the images a second of training in another process, as a step of a plan runs there."""
    command = [sys.executable, "-c", TRAIN, str(number), name, str(SECONDS)]
    environment = {**WAITING, **os.environ}
    return float(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


def speed() -> Iterator[Row]:
    """Export one network at every load; speed-ups are against the dense network in the same runtime."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", str(SPECS / "digits.yaml"), "--json", *settings(EXPORT)]
        call(*arguments, "--out", f"{folder}/first", cache=f"{folder}/cache")
        for number, processes in enumerate(SPEEDS):
            with load(processes):
                out = ("--out", f"{folder}/{number}", "--force", "emit/*")
                _, ended = call(*arguments, *out, cache=f"{folder}/cache")
            assert ended.returncode == 0, ended.stderr
            for emitted in json.loads(ended.stdout)["emitted"]:
                row = {"measure": "speed", "load": processes, "repeat": number, "format": emitted["format"]}
                for count, measured in emitted["speeds"].items():
                    row |= {f"{name}_{count}": measured[name] for name in measured}
                yield row


def limits() -> Iterator[Row]:
    """Ask `doctor`, and run the digits spec, within `LIMITS`."""
    with tempfile.TemporaryDirectory() as folder, limited() as words:
        _, asked = call("doctor", "--json", cache=f"{folder}/cache", before=words)
        arguments = ("run", str(SPECS / "digits.yaml"), "--out", f"{folder}/run")
        seconds, ended = call(*arguments, cache=f"{folder}/cache", before=words)
        peak = int((CONTROL / "memory/autosparse-busy/memory.max_usage_in_bytes").read_text())
        about = json.loads(asked.stdout)
        row = {"measure": "limits", "exit_code": ended.returncode, "run_seconds": round(seconds, 1), "peak_bytes": peak}
        yield row | {name: about[name] for name in ("threads", "memory_bytes")}


def edges() -> Iterator[Row]:
    """Run specs with 17 test images, all of them correct, and with random labels."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data.py").write_text(OWN_DATA, encoding="utf-8")
        for name in ("easy", "noise"):
            spec = Path(folder, f"{name}.yaml")
            spec.write_text(EDGES.format(name=name), encoding="utf-8")
            _, ended = call("run", str(spec), "--json", "--out", f"{folder}/{name}", cache=f"{folder}/cache")
            assert ended.returncode == 0, ended.stderr
            report: Any = json.loads(ended.stdout)
            costs = {cost["method"]: cost["trainings"] for cost in report["mask_costs"]}
            yield {
                "measure": "edges", "data": name, "words": [verdict["words"] for verdict in report["verdicts"]],
                "accuracies": {result["method"]: result["test_accuracy"] for result in report["results"]},
                "warnings": report["warnings"], "random_mask_trainings": costs["erk"],
            }  # fmt: skip


MEASURES: dict[str, Callable[..., Iterator[Row]]] = {
    "plan": plan, "run": run, "threads": threads, "speed": speed, "limits": limits, "edges": edges
}  # fmt: skip


def main() -> None:
    """Print and append the rows of one measurement, or print the latest rows of all."""
    if sys.argv[1:] == ["table"]:
        for row in latest(read("busy"), "measure", "spec", "load", "repeat", "format", "data"):
            print(json.dumps({name: value for name, value in row.items() if name not in ("command", "version")}))
        return
    for row in MEASURES[sys.argv[1]](*sys.argv[2:]):
        print(json.dumps(row), flush=True)
        append("busy", [row], threads=this_machine().cores)


if __name__ == "__main__":
    main()
