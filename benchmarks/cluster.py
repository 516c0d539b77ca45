"""A Ray cluster of three nodes simulated on one machine, and runs on it that survive node failures.

`python benchmarks/cluster.py kills [RUNS]` runs a short comparison on one machine, then RUNS times on the cluster, and
kills one node at a random moment of each run. It prints the exit codes and whether the bytes are identical.
`python benchmarks/cluster.py backends` runs the digits spec on `local` and on `ray` and prints the times.
`python benchmarks/cluster.py serve FOLDER` prints the cluster's address and reads commands from stdin: `kill` removes a
node and adds another, `end` stops. Every node has a separate cache below FOLDER; the head node runs no steps.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPEC = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: 0.9
method: snip
compare: [random, erk, magnitude, synflow]
controls: []
emit: []
training: {epochs: 2}
target: {device: cpu, threads: 1}
"""
AGES = 6.0  # seconds after the first step within which a node fails


def serve(folder: str) -> None:
    """Keep a cluster running until `end`."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    from ray.cluster_utils import Cluster

    def add() -> Any:
        added.append(len(added))
        cache = {"AUTOSPARSE_CACHE_DIR": str(Path(folder) / f"machine{added[-1]}"), "OMP_NUM_THREADS": "1"}
        return cluster.add_node(num_cpus=1, env_vars=cache)

    added: list[int] = []
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = [add(), add()]
    print(f"address {cluster.address}", flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(machines.pop(0), allow_graceful=False)
            machines.append(add())
            print("killed", flush=True)
        elif line.strip() == "end":
            break
    cluster.shutdown()


class Machines:
    """A cluster in a separate process; a context manager."""

    def __init__(self, folder: Path) -> None:
        with (folder / "err.txt").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "serve", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.address = self._hear("address ")

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self._say("end")
        assert self.process.stdin
        assert self.process.stdout
        self.process.wait(timeout=60)
        self.process.stdin.close()
        self.process.stdout.close()

    def kill(self) -> None:
        """Remove a node and add another."""
        self._say("kill")
        self._hear("killed")

    @property
    def backend(self) -> str:
        """The value of `target.backend`."""
        return f"{{name: ray, address: '{self.address}', trusted: true}}"

    def _say(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def _hear(self, word: str) -> str:
        assert self.process.stdout
        while not (line := self.process.stdout.readline()).startswith(word):
            if not line:
                raise RuntimeError("the cluster did not start")
        return line.removeprefix(word).strip()


def published(shared: Path) -> dict[str, str]:
    """Return sha256 of the tensor files in a shared store, by artifact and name."""
    return {
        f"{path.parent.name}/{path.stem}/{name}": about["sha256"]
        for path in shared.glob("artifacts/*/*.json")
        for name, about in json.loads(path.read_text())["files"].items()
        if name.endswith(".safetensors")
    }


def begin(folder: Path, spec: str, *values: str) -> subprocess.Popen[str]:
    """Start a run of a spec in a folder that holds its cache and its shared store."""
    folder.mkdir()
    (folder / "spec.yaml").write_text(f"{spec}store: {folder / 'shared'}\n")
    command = [sys.executable, "-m", "autosparse", "run", "spec.yaml", "--json", "--quiet"]
    for value in values:
        command += ["--set", value]
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": str(folder / "cache")}
    out = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out, text=True)


def kills(runs: str = "10") -> None:
    """Run the comparison on a cluster that loses a node in every run."""
    from records import append

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin(folder / "alone", SPEC).communicate()
        alone = published(folder / "alone" / "shared")
        print(f"on one machine: {len(alone)} tensor files")
        chance = random.Random(0)
        with Machines(folder) as machines:
            for number in range(1, int(runs) + 1):
                started = time.monotonic()
                process = begin(folder / str(number), SPEC, f"target.backend={machines.backend}")
                shared = folder / str(number) / "shared"
                while not list(shared.glob("artifacts/*/*")) and process.poll() is None:
                    time.sleep(0.05)
                time.sleep(chance.uniform(0.0, AGES))
                steps = len(list(shared.glob("artifacts/*/*")))
                machines.kill()
                _, errors = process.communicate()
                same, seconds = published(shared) == alone, time.monotonic() - started
                log = next((folder / str(number) / "runs").glob("*/log.txt")).read_text()
                retried = [line.split("`")[1] for line in log.splitlines() if "is retried" in line]
                print(
                    f"run {number}: node failure after {steps} steps, retried: {', '.join(retried) or 'none'}; "
                    f"exit code {process.returncode}, {'identical bytes' if same else 'OTHER BYTES'}, "
                    f"{seconds:.0f} s, {len(errors.splitlines())} lines on stderr",
                    flush=True,
                )
                append("cluster", [{
                    "measure": "node failure", "run": number, "steps_before": steps, "retried": retried,
                    "exit_code": process.returncode, "same_bytes": same, "seconds": round(seconds, 1),
                }])  # fmt: skip


def backends() -> None:
    """Run the digits spec on both backends, one thread a step; compare bytes and times."""
    from records import append

    digits = (Path(__file__).parent.parent / "specs" / "digits.yaml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes, rows = {}, []
        for label, values in {
            "local, 1 worker": ["target.workers=1"],
            "local, 2 workers": ["target.workers=2"],
            "ray, 2 cores": ["target.backend={name: ray, address: local}"],
        }.items():
            started = time.monotonic()
            process = begin(folder / label, digits, "target.threads=1", *values)
            out, errors = process.communicate()
            assert process.returncode == 0, errors
            report = json.loads(out)
            outcomes[label] = published(folder / label / "shared"), report["results"]
            steps = len(report["timeline"])
            work = sum(step["seconds"] for step in report["timeline"])
            whole, made = time.monotonic() - started, report["seconds"]
            times = f"{work:.1f} s of work, run {made:.1f} s, total {whole:.1f} s"
            print(f"{label}: {steps} steps, {times}", flush=True)
            rows.append({
                "measure": "backend", "backend": label.split(",")[0], "workers": int(label.split()[1]), "steps": steps,
                "work_seconds": round(work, 1), "run_seconds": round(made, 1), "seconds": round(whole, 1),
            })  # fmt: skip
        first, *others = outcomes.values()
        same = all(other == first for other in others)
        print("identical digests and results" if same else "OTHER BYTES")
        append("cluster", ({**row, "same_bytes": same} for row in rows))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"serve": serve, "kills": kills, "backends": backends}
    commands[sys.argv[1]](*sys.argv[2:])
