"""Failures of steps: independent steps finish, the report marks the missing cells, a rerun resumes."""

from __future__ import annotations

import csv
import io
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Placement as Where
from autosparse.backends import Raised
from autosparse.errors import (
    AutosparseError,
    Busy,
    DamagedArtifact,
    Diverged,
    MissingData,
    MissingExtra,
    StepError,
    UsageError,
)
from autosparse.execute import Event, Execution, Failed, Progress
from autosparse.execute import Finished as StepFinished
from autosparse.planning.model import Cell, Plan, Step
from autosparse.planning.status import Selection, Status, select_steps
from autosparse.registry import Registry
from autosparse.report.finished import Finished
from autosparse.steps import Context, StepResult, operations
from autosparse.store import Store, key_of
from tests.conftest import Workspace, call
from tests.docs.test_outputs import follows
from tests.plans import DIGITS, compiled

NET = """\
from pathlib import Path

from torch import nn


class Net(nn.Module):
    def __init__(self, pixels, classes):
        super().__init__()
        self.calm, self.wild = nn.Linear(pixels, classes), nn.Linear(1, classes, bias=False)
        nn.init.constant_(self.wild.weight, 1e-9)

    def forward(self, images):
        gain = float(Path(__file__).with_name("gain.txt").read_text()) if self.training else 1.0
        pixels = images.flatten(1)
        return self.calm(pixels) + gain * self.wild(1 + pixels[:, :1] ** 2)


def build(input_shape, classes):
    channels, height, width = input_shape
    return Net(channels * height * width, classes)
"""
"""A network that diverges under every mask that keeps a weight of `wild`, the smallest ones."""
SPEC = """\
version: 1
model: "net.py:build"
dataset: {name: digits, images_per_class: 20}
budget: [0.9]
training: {epochs: 2, batch: 64, crop: 0, flip: false, precision: float32}
method: magnitude
compare: [random, dense]
controls: []
seeds: [0, 1]
target: {device: cpu, threads: 1}
"""
LOST = {"random": (0, 1), "dense": (0, 1)}


@dataclass
class Recording:
    """An observer that records the steps that ran, were reused, and failed with those skipped because of them."""

    ran: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def on_event(self, event: Event) -> None:
        match event:
            case StepFinished(step, status):
                (self.reused if status == "reuse" else self.ran).append(step)
            case Failed(step, _, skipped):
                self.lost[step] = [*skipped]


@dataclass(frozen=True)
class Toy(StepResult):
    """The result of a toy step."""

    name: str


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """Errors that toy steps raise, by name; the others write a file."""
    errors: dict[str, BaseException] = {}
    entries: Registry[Any] = operations
    monkeypatch.setattr(entries, "_entries", {**entries._entries})

    @entries.register(version=1, result=Toy)
    def toy(context: Context, *, name: str) -> None:
        """Write a file, or raise."""
        if name in errors:
            raise errors[name]
        context.output.write_json("result", {"name": name})

    return errors


def toys(**inputs: str) -> Plan:
    """A plan of toy steps: name -> names of its inputs, in an order in which they can run."""
    steps: dict[str, Step] = {}
    for name, needs in inputs.items():
        named = {other: other for other in needs.split()}
        key = key_of("toy", 1, {"name": name}, {other: steps[other].key for other in named})
        steps[name] = Step(name, "toy", 1, {"name": name}, named, key, "network")
    cell = Cell("toy", "0.9", 0.9, 0, "method", train=next(iter(steps)), evaluate=next(iter(steps)), mask=None)
    return replace(compiled(DIGITS), steps=steps, sources={}, cells=(cell,), checks=())


def run(plan: Plan, store: Store, selection: Selection | None = None) -> tuple[Recording, Execution]:
    """Run a plan of toy steps in turn."""
    recording = Recording()
    statuses = {name: Status("run", "") for name in plan.steps}
    execution = Execution(plan, store, recording, placement=Where("cpu", 1), selection=selection or Selection(statuses))
    execution.attempt()
    return recording, execution


GRAPH = {"a": "", "b": "a", "c": "b", "d": "a", "e": "b d", "f": "e", "g": "d"}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Diverged("training diverged: w is not finite", "lower it"), "diverged", "step `b` failed: training diverged"),
        (StepError("no such mask"), "failed", "step `b` failed: no such mask"),
        (RuntimeError("CUDA out of memory"), "failed", "step `b` failed: FILE: RuntimeError: CUDA out of memory"),
        (UsageError("no layer matches `x`"), "failed", "step `b` failed: no layer matches `x`"),
    ],
)
def test_steps_that_do_not_depend_on_a_failed_one_finish(
    tmp_path: Path, broken: dict[str, BaseException], error: Exception, status: str, message: str
) -> None:
    """Its dependents are skipped, whatever its error; the next run runs these alone."""
    plan, store = toys(**GRAPH), Store(tmp_path)
    broken["b"] = error
    first, execution = run(plan, store)
    del broken["b"]
    second, after = run(plan, store)

    assert ["a", "d", "g"] == first.ran
    assert {"b": ["c", "e", "f"]} == first.lost
    (failure,) = execution.outcome.failures()
    assert ("b", status, ["c", "e", "f"]) == (failure["step"], failure["status"], failure["skipped"])
    assert re.sub(r"\S+test_failures\.py:\d+", "FILE", failure["message"]).startswith(message)
    assert (["b", "c", "e", "f"], ["a", "d", "g"]) == (second.ran, second.reused)
    assert ({}, {}) == (after.outcome.failed, second.lost)


def test_several_failures_are_one_error(tmp_path: Path, broken: dict[str, BaseException]) -> None:
    """`run` raises it once all else is finished, with a problem for each; a step is skipped because of the first."""
    plan, recording = toys(**GRAPH), Recording()
    broken |= {"b": Diverged("no number", "lower it"), "g": ValueError("odd")}
    selection = Selection({name: Status("run", "") for name in plan.steps})
    with pytest.raises(StepError) as caught:
        Execution(plan, Store(tmp_path), recording, placement=Where("cpu", 1), selection=selection).run()

    assert ["a", "d"] == recording.ran
    assert [
        ("step `b` failed: no number; 3 dependent steps skipped", "lower it"),
        ("step `g` failed: FILE: ValueError: odd", "what finished before it is kept; `--debug` shows where it failed"),
    ] == [(re.sub(r"\S+test_failures\.py:\d+", "FILE", text), hint) for text, hint in caught.value.problems]


@pytest.mark.parametrize(
    "error", [MissingData("no files"), MissingExtra("no library"), Busy("held"), KeyboardInterrupt()]
)
def test_an_error_of_more_than_a_step_ends_the_run(
    tmp_path: Path, broken: dict[str, BaseException], error: BaseException
) -> None:
    """Missing data, a missing library, a lock that is held, Ctrl-C."""
    broken["b"] = error
    with pytest.raises(type(error)):
        run(toys(**GRAPH), Store(tmp_path))

    assert not Store(tmp_path).has("toy", toys(**GRAPH).steps["d"].key)


def test_a_damaged_input_that_cannot_be_rebuilt_fails_its_dependents_alone(
    tmp_path: Path, broken: dict[str, BaseException]
) -> None:
    """Damage noticed only while the report is read is no different: the step is left out of the report."""
    plan, store = toys(**GRAPH), Store(tmp_path)
    run(plan, store)
    for name in ("d", "f", "g"):
        store.remove("toy", plan.steps[name].key)
    (tmp_path / "artifacts" / "toy" / plan.steps["a"].key / "result.json").write_bytes(b"{}")
    broken["a"] = StepError("the dataset is gone")
    # `d` reads `a` whole, as a toy step does not.
    read = operations["toy"].function
    operations._entries["toy"] = replace(operations["toy"], function=lambda work, name: _reading(read, work, name))
    recording, execution = run(plan, store)

    assert (["b", "c", "e"], ["f"]) == (recording.reused[1:], recording.ran)
    assert {"a": ["d", "g"]} == recording.lost
    damaged = tmp_path / "artifacts" / "toy" / plan.steps["c"].key / "result.json"
    damaged.write_bytes(b"{}")
    broken["c"] = StepError("nor this")

    def names() -> list[str]:
        finished = Finished.of(plan, store, execution.outcome.unmade)
        return [finished.open(step.name).json("result")["name"] for step in finished.steps()]

    assert ["b", "e", "f"] == execution.read(names)
    assert {"a", "c"} == {*execution.outcome.failed}


def _reading(function: Any, context: Context, name: str) -> None:
    for artifact in context.inputs.values():
        artifact.json("result")
    function(context, name=name)


def test_a_result_that_is_malformed_again_fails_its_step(tmp_path: Path, broken: dict[str, BaseException]) -> None:
    """A step whose result no reader accepts is made a second time, not for ever."""
    plan, store = toys(a="", b="a"), Store(tmp_path)
    make = operations["toy"].function

    def refuse(context: Context, name: str) -> None:
        for artifact in context.inputs.values():
            raise artifact.malformed("result.json: odd")
        make(context, name=name)

    operations._entries["toy"] = replace(operations["toy"], function=refuse)
    recording, execution = run(plan, store)

    assert (["a", "a"], {"a": ["b"]}) == (recording.ran, recording.lost)
    assert "new artifact is damaged" in execution.outcome.failures()[0]["message"]
    with pytest.raises(DamagedArtifact, match="step `a` failed: its new artifact is damaged") as caught:
        execution.outcome.check(reported=True)
    assert 4 == caught.value.exit_code


def test_a_forced_step_that_fails_keeps_its_artifact(tmp_path: Path, broken: dict[str, BaseException]) -> None:
    """The report goes on from the former one, and the failure is in the outcome."""
    plan, store = toys(**GRAPH), Store(tmp_path)
    run(plan, store)
    broken["b"] = ValueError("odd")
    reuse = {name: Status("reuse", "") for name in plan.steps}
    recording, execution = run(plan, store, select_steps(plan, reuse, force=["b"]))

    assert ([], {"b": []}) == (recording.ran, recording.lost)
    assert ["b"] == [*execution.outcome.failed]
    assert [*plan.steps] == [step.name for step in Finished.of(plan, store, execution.outcome.unmade).steps()]


class Pool:
    """Two workers that make toy steps in the store, but for those that fail."""

    def __init__(self, plan: Plan, store: Store, errors: Mapping[str, AutosparseError]) -> None:
        self._plan, self._store, self._errors = plan, store, errors
        self._at: dict[int, str | None] = {1: None, 2: None}
        self.made: list[str] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None: ...
    def check(self, name: str) -> None: ...

    @property
    def busy(self) -> bool:
        return any(self._at.values())

    @property
    def idle(self) -> Iterator[int]:
        return (worker for worker, at in [*self._at.items()] if at is None)

    def start(self, worker: int, name: str) -> None:
        self._at[worker] = name

    def receive(self) -> Iterator[Event | Raised]:
        worker, name = next((worker, at) for worker, at in self._at.items() if at)
        self._at[worker] = None
        self.made.append(name)
        if name in self._errors:
            yield Raised(self._errors[name])
        else:
            self._store.publish("toy", self._plan.steps[name].key, lambda draft: draft.write_json("result", {}), dict)
            yield StepFinished(name, "run", 1.0, {})
        yield Progress(name, 1, 1)  # a late message changes nothing


@pytest.mark.parametrize("step", ["b", ""])
def test_workers_go_on_unless_the_error_concerns_the_run(
    tmp_path: Path, broken: dict[str, BaseException], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An error that names its step fails that step alone; one that names none ends the run after the running steps."""
    plan, store, error = toys(**GRAPH), Store(tmp_path), StepError("no")
    error.step = step
    pool = Pool(plan, store, {"b": error})
    monkeypatch.setattr(Execution, "_pool", lambda self, missing: pool)
    if not step:
        with pytest.raises(StepError, match="no"):
            run(plan, store)

        assert {"a", "b", "d"} == {*pool.made}
        return
    recording, execution = run(plan, store)

    assert ["a", "d", "g"] == recording.ran
    assert {"b": ["c", "e", "f"]} == recording.lost
    assert {"b": error} == execution.outcome.failed


@pytest.mark.parametrize("kind", [StepError, Diverged, UsageError])
def test_an_error_keeps_its_step_on_its_way_from_a_worker(kind: type[AutosparseError]) -> None:
    """And its class, message, hint and notes."""
    error = kind("no", "yes")
    error.step = "train/a"
    again = pickle.loads(pickle.dumps(error))

    assert (kind, vars(error)) == (type(again), vars(again))
    assert "train/a" == again.step


def test_a_failure_frees_its_frames(tmp_path: Path, broken: dict[str, BaseException]) -> None:
    """An error is kept until the run ends, the networks of its step are not; its lines are, for `--debug`."""
    broken["b"] = ValueError("odd")
    _, execution = run(toys(**GRAPH), Store(tmp_path))
    frames, error = [], execution.outcome.failed["b"].__cause__
    assert error is not None
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next

    assert "toy" == frames[-1].f_code.co_name
    assert {} == frames[-1].f_locals


@pytest.fixture
def wild(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A spec of which all trainings but those of `magnitude` diverge."""
    (here.folder / "net.py").write_text(NET)
    (here.folder / "gain.txt").write_text("1e20")
    (here.folder / "wild.yaml").write_text(SPEC)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield here
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(here.folder)):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_that_diverges_costs_its_own_cell(
    wild: Workspace, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """The others are trained, evaluated, emitted and reported; a rerun runs the failed steps alone."""
    command = f"run wild.yaml --json --set target.workers={workers}"
    first = call(capsys, command)
    report = first.json
    again = call(capsys, command)
    (wild.folder / "gain.txt").write_text("1.0")
    mended = call(capsys, command)

    assert 1 == first.code == again.code
    assert [] == follows("run", report)
    assert [("magnitude", 0), ("magnitude", 1)] == [(one["method"], one["seed"]) for one in report["results"]]
    assert {(one["method"], one["seed"]): one["status"] for one in report["missing"]} == {
        (method, seed): "diverged" for method, seeds in LOST.items() for seed in seeds
    }
    assert 1 == len(report["emitted"])
    assert Path(report["emitted"][0]["path"]).is_dir()
    steps = sorted(one["step"] for one in report["failures"])
    assert ["train/dense/seed0", "train/dense/seed1", "train/random/0.9/seed0", "train/random/0.9/seed1"] == steps
    for failure in report["failures"]:
        line = f"{failure['message']}; 1 dependent step skipped"
        assert failure["message"].startswith(f"step `{failure['step']}` failed: training diverged: ")
        assert [failure["step"].replace("train", "evaluate")] == failure["skipped"]
        assert any(
            f"`{failure['step']}`" in text and "failed: training diverged" in text for text in report["warnings"]
        )
        assert 1 == first.err.count(f"error: {line}\nhint: lower `training.lr`\n")
    assert "Traceback" not in first.err
    assert {"run": 0, "reuse": report["steps"]["run"], "resume": 0} == again.json["steps"]
    assert steps == sorted(one["step"] for one in again.json["failures"])

    assert 0 == mended.code, mended.err
    assert {"run": 8, "reuse": report["steps"]["run"], "resume": 0} == mended.json["steps"]
    assert [] == mended.json["failures"] == mended.json["missing"]
    assert report["run"] == mended.json["run"]


@pytest.mark.slow
def test_commands_cope_with_an_incomplete_run(wild: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells say `diverged`, on a terminal, in Markdown, CSV and HTML; `runs` and `compare` take it."""
    assert 1 == call(capsys, "run wild.yaml --quiet").code
    shown = {name: call(capsys, f"report {option}") for name, option in
             (("screen", ""), ("markdown", "--md"), ("csv", "--csv"), ("one", "--method magnitude"))}  # fmt: skip
    page = call(capsys, "report --html page.html")
    (wild.folder / "gain.txt").write_text("1.0")
    whole = call(capsys, "run wild.yaml --quiet --out whole")
    compared = call(capsys, "compare wild-1 whole")
    listed = call(capsys, "runs")

    assert [0] * 7 == [one.code for one in (*shown.values(), page, whole, compared)]
    assert ["random", "diverged"] in [line.split() for line in shown["screen"].out.splitlines()]
    assert "| random | diverged |" in shown["markdown"].out
    rows = [row for row in csv.DictReader(io.StringIO(shown["csv"].out)) if row["status"] == "diverged"]
    assert {(method, str(seed), "") for method, seeds in LOST.items() for seed in seeds} == {
        (row["method"], row["seed"], row["test_accuracy"]) for row in rows
    }
    assert ["random"] not in [line.split()[:1] for line in shown["one"].out.splitlines()]
    assert "random</th><td>diverged</td>" in Path("page.html").read_text(encoding="utf-8")
    assert any(line.split()[:3] == ["random", "0.9", "diverged"] for line in compared.out.splitlines())
    assert "runs/wild-1" in listed.out
    assert 0 == call(capsys, "runs --json").code


def test_a_method_that_diverges_is_marked_in_the_list_of_runs(
    wild: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a verdict, and without a mean."""
    ended = call(capsys, "run wild.yaml --set method=random --set compare=[magnitude] --json")
    listed = call(capsys, "runs")

    assert 1 == ended.code
    assert [] == ended.json["verdicts"] == ended.json["emitted"]
    assert "0.9: diverged" in listed.out
    assert {} == call(capsys, "runs --json").json["runs"][0]["accuracy"]


@pytest.mark.slow
def test_a_study_shows_which_values_diverge(wild: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The other values have their accuracies; each failed step has an error line that names its value."""
    asked = "study wild.yaml --set method=random --vary training.lr=1e-30,0.2 --vary training.batch=32"
    ended = call(capsys, f"{asked} --set training.lr=0.1")
    document = call(capsys, f"{asked} --json")
    levels = {(level["factor"], level["value"]): level["budgets"]["0.9"] for level in document.json["levels"]}

    assert 1 == ended.code == document.code
    assert [] == follows("study", document.json)
    assert "wild" == document.json["spec"]
    assert "diverged" in ended.out
    assert "error: training.lr 0.2: step `train/random/0.9/seed0` failed: training diverged" in ended.err
    assert 1 == ended.err.count("error: training.lr 0.1: step `train/random/0.9/seed0`")  # the base of both factors
    assert {"0": "diverged", "1": "diverged"} == levels["training.lr", 0.2]["statuses"]
    assert levels["training.lr", 0.2]["mean"] is None
    assert levels["training.lr", 1e-30]["mean"] is not None


def test_without_data_nothing_is_reported(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The run fails with the step's sentence and prints no document; a run of some steps lists those it finished."""
    (here.folder / "data.py").write_text(
        "import numpy\nfrom pathlib import Path\n\ndef load():\n"
        "    if Path('gone').exists():\n        raise ValueError('disk')\n"
        "    labels = numpy.arange(60) % 3\n    images = numpy.zeros((60, 4, 4), 'uint8')\n"
        "    images[:, 0, 0] = 4 * labels\n    images[:, 1, 1] = numpy.arange(60)\n    return (images, labels), None\n"
    )
    spec = SPEC.replace('"net.py:build"', "mlp").replace("{name: digits, images_per_class: 20}", '"data.py:load"')
    (here.folder / "own.yaml").write_text(spec.replace("[random, dense]", "[random]"))
    planned = call(capsys, "plan own.yaml")
    (here.folder / "gone").touch()
    ended = call(capsys, "run own.yaml --json")
    some = call(capsys, "run own.yaml --only data/* --json")

    assert 0 == planned.code, planned.err
    assert (0 != ended.code, "") == (ended.code in (1, 2), ended.out)
    assert "ValueError: disk" in ended.err
    assert not list(Path("runs").glob("*/report.json"))
    assert [] == follows("made", some.json)
    assert ["data/data.py:load"] == [one["step"] for one in some.json["failures"]] == some.json["missing"][:1]


def test_a_criterion_that_cannot_score_costs_its_own_cells(wild: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer that an allocation names and the network lacks: the mask fails, and the other methods finish."""
    (wild.folder / "gain.txt").write_text("1.0")
    odd = "{name: odd, criterion: magnitude, allocation: {name: fixed, layers: {nowhere: 0.5}}}"
    (wild.folder / "odd.yaml").write_text(SPEC.replace("[random, dense]", f"[random, {odd}]"))
    ended = call(capsys, "run odd.yaml --json")

    assert 1 == ended.code
    assert {"magnitude", "random"} == {one["method"] for one in ended.json["results"]}
    assert {("odd", "failed")} == {(one["method"], one["status"]) for one in ended.json["missing"]}
    assert "error: step `mask/odd/0.9/seed0` failed: no layer matches `nowhere`; 2 dependent steps skipped" in ended.err
