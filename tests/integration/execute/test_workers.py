"""Several steps at once: the same bytes in less time, and no worker left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.backends import Placement as Where
from autosparse.cost.fitted import Fitted, with_workers
from autosparse.cost.price import Estimate, Price
from autosparse.errors import AutosparseError, DamagedArtifact, UsageError
from autosparse.planning.graph import makespan
from autosparse.planning.model import Step
from autosparse.planning.status import Status
from tests.conftest import Ended, Workspace
from tests.plans import compiled

SPEC = (
    "version: 1\nmodel: {name: resnet8, width: 4}\ndataset: digits\nbudget: 0.9\nmethod: snip\n"
    "compare: [random, erk, magnitude, synflow]\ncontrols: []\nemit: []\ntarget: {device: cpu, threads: 1}\n"
)


def step(name: str, *inputs: str) -> Step:
    """A step that takes others."""
    return Step(name, "train", 1, {}, {str(n): other for n, other in enumerate(inputs)}, name, "network", {})


def test_makespan_by_hand() -> None:
    """A chain takes its full time; other steps run next to it. Nothing waits for existing artifacts."""
    steps = [step("a"), step("b", "a"), step("c", "b"), step("d"), step("e", "there"), step("f", "c", "d", "e")]
    seconds = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 4.0, "e": 5.0, "f": 1.0}

    assert sum(seconds.values()) == makespan(steps, seconds, 1)
    assert 9.0 == makespan(steps, seconds, 2)  # a d f beside e b c: of what can begin, what most waits for
    assert 7.0 == makespan(steps, seconds, 3)
    assert 7.0 == makespan(steps, seconds, 99)
    assert 5.0 == makespan(steps, {"d": 4.0, "f": 1.0}, 2)
    assert 0.0 == makespan(steps, {}, 2)


def fitted(path: Path, *overrides: str, seconds: float = 100.0, memory: int = 10 * 2**30) -> Fitted:
    """The plan of SPEC, each of whose steps takes so long and a GiB."""
    (path / "spec.yaml").write_text(SPEC)
    plan = compiled(path / "spec.yaml", *overrides)
    estimate = Estimate(seconds, 2**30, 0, "probe")
    price = Price(dict.fromkeys(plan.steps, estimate), 2.0, 0, None)
    by_step = {name: Status("run", "no earlier artifact") for name in plan.steps}
    return Fitted(plan, by_step, price, Where("cpu", 1), memory)


@pytest.mark.parametrize(
    ("asked", "cores", "seconds", "memory", "expected"),
    [
        ("auto", 4, 100.0, 10, 4),
        ("auto", 1, 100.0, 10, 1),
        ("auto", 4, 0.1, 10, 1),
        ("auto", 4, 100.0, 3, 3),
        ("3", 1, 0.1, 10, 3),
        ("3", 4, 100.0, 2, 2),
        ("3", 4, 100.0, 0, 1),
    ],
)
def test_workers_fit_cores_and_memory(
    tmp_path: Path, asked: str, cores: int, seconds: float, memory: int, expected: int
) -> None:
    """The requested number is reduced to fit memory; auto takes every core if that saves time."""
    given = fitted(tmp_path, f"target.workers={asked}", seconds=seconds, memory=memory * 2**30)
    fit = with_workers(given, cores)

    assert expected == fit.workers
    lowered = asked == "3" and expected < 3
    assert ([f"target.workers 3 → {expected}"] if lowered else []) == [
        str(adjustment) for adjustment in fit.adjustments
    ]
    assert (fit.seconds < given.seconds) == (expected > 1)


def test_threads_share_the_cores(tmp_path: Path) -> None:
    """Two threads each are two workers on four cores; elsewhere than on a processor there is one."""
    assert 2 == with_workers(fitted(tmp_path, "target.threads=2"), 4).workers
    elsewhere = fitted(tmp_path)
    target = elsewhere.plan.spec.target.model_copy(update={"device": "cuda"})
    spec = elsewhere.plan.spec.model_copy(update={"target": target})
    assert 1 == with_workers(replace(elsewhere, plan=replace(elsewhere.plan, spec=spec)), 4).workers


@pytest.mark.parametrize(("free", "expected"), [(None, 3), (1000, 3), (15, 2), (7, 1), (0, 1)])
def test_workers_fit_the_limit_of_processes(tmp_path: Path, free: int | None, expected: int) -> None:
    """Each worker may start threads of torch and of numpy, and a few more: as many workers as can start theirs."""
    fit = with_workers(fitted(tmp_path, "target.workers=3", "target.threads=1"), 2, free)

    assert expected == fit.workers
    assert ["processes"] * (expected < 3) == [adjustment.limit for adjustment in fit.adjustments]


def test_workers_share_libraries_and_each_checks_models(tmp_path: Path) -> None:
    """The run's process takes memory next to two workers; pages of libraries count once, checks for every worker."""
    alone = fitted(tmp_path, "target.workers=2", memory=3 * 2**30)
    price = replace(alone.price, base=2**30, private=2**29)

    assert 2 == with_workers(replace(alone, price=price), 2).workers  # 1 + 2 * 1 - 2 * 0.5 GiB
    assert 1 == with_workers(replace(alone, price=price, memory=2**31 - 1), 2).workers
    assert 1 == with_workers(replace(alone, price=replace(price, private=2**30), memory=3 * 2**30 - 1), 2).workers


@pytest.mark.parametrize("error", [UsageError("no", "yes"), AutosparseError("no"), DamagedArtifact("key", "no", "yes")])
def test_errors_travel(error: AutosparseError) -> None:
    """From a worker to its run."""
    again = pickle.loads(pickle.dumps(error))

    assert (type(error), vars(error)) == (type(again), vars(again))


@pytest.mark.slow
def test_the_bytes_are_the_same(finished: tuple[Workspace, Ended], workspace: Workspace) -> None:
    """As those of one step after another, with the same results and the same steps; and a plan says so before."""
    several = ("--set", "target.workers=2")
    planned = workspace.run("plan", "small.yaml", *several)
    ended = workspace.run("run", "small.yaml", "--json", *several)

    assert 0 == ended.code, ended.err
    assert "2 steps at once, 1 thread each" in planned.out
    assert finished[0].digests() == workspace.digests()
    assert finished[1].json["results"] == ended.json["results"]
    assert finished[1].json["steps"] == ended.json["steps"]
    assert f"[{ended.json['steps']['run']}/" in ended.err
    assert "nothing to run" in workspace.run("run", "small.yaml", *several).err


@pytest.mark.slow
def test_steps_that_fail_are_told_as_when_they_run_alone(workspace: Workspace) -> None:
    """With the messages of single runs; the IRP and the scorer, which do not need them, finish."""
    ended = workspace.run("run", "small.yaml", "--set", "training.lr=1e9", "--set", "irp.training.epochs=1",
                      "--set", "irp.training.lr=0.05", "--set", "target.workers=2", "--json")  # fmt: skip

    assert 1 == ended.code
    assert "failed: training diverged" in ended.err
    assert "hint: lower `training.lr`" in ended.err
    assert "Traceback" not in ended.err
    assert [] == ended.json["results"] == ended.json["emitted"]
    assert {"diverged"} == {one["status"] for one in ended.json["missing"]}
    assert 3 == len(ended.json["irp"])
    assert "mlp" == ended.json["scorer"]["name"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process's children in /proc")
def test_a_run_goes_on_when_all_its_workers_are_killed(workspace: Workspace) -> None:
    """Each kill fails a step; the last worker is replaced, and the steps that need neither are finished."""
    process = workspace.start("run", "small.yaml", "--json", "--set", "target.workers=2")
    deadline = time.monotonic() + 120
    while not list((workspace.cache / "artifacts" / "irp").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for worker in sorted(map(int, workers))[-2:]:
        os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    report = json.loads(out)

    assert 1 == process.returncode, err
    assert 2 == len(report["failures"]) == err.count("its process was killed by SIGKILL") // 2
    assert {"dense", "random", "snip", "slow"} & {one["method"] for one in report["results"]}
    assert len(report["missing"]) + len(report["results"]) + len(report["controls"]) == 13
    assert 0 == workspace.run("run", "small.yaml", "--json").code


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process's children in /proc")
@pytest.mark.parametrize(
    ("sent", "to", "code", "printed"),
    [
        (signal.SIGINT, "run", 130, "the same command resumes"),
        (signal.SIGTERM, "run", 143, "the same command resumes"),
        (signal.SIGKILL, "worker", 1, "its process was killed by SIGKILL"),
    ],
)
def test_signals(
    finished: tuple[Workspace, Ended], workspace: Workspace, sent: signal.Signals, to: str, code: int, printed: str
) -> None:
    """Whoever is hit, no worker stays, the run says what happened, and the same command goes on."""
    process = workspace.start("run", "small.yaml", "--set", "target.workers=2")
    deadline = time.monotonic() + 120
    while not list((workspace.cache / "artifacts" / "irp").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(process.pid if to == "run" else max(children), sent)
    _, err = process.communicate(timeout=60)

    assert (code, True) == (process.returncode, printed in err), err
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "Traceback" not in err
    if to == "run":
        assert [] == list((workspace.cache / "drafts").glob("*"))
    if sent == signal.SIGTERM:  # as after Ctrl-C
        return
    assert 0 == workspace.run("run", "small.yaml").code
    assert finished[0].digests() == workspace.digests()
