"""Runs from beginning to end: results, reuse, resuming, damage, signals, reproducibility."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

from autosparse.models import models
from tests.conftest import Ended, Workspace


def test_a_run_follows_the_contract(finished: tuple[Workspace, Ended]) -> None:
    """`run --json` prints one document with every method, control, budget and emitted model."""
    workspace, ended = finished
    report = ended.json
    counts = Counter((result["method"], result["sparsity"]) for result in report["results"] + report["controls"])
    budgets = (0.8, 0.9)
    methods = ("learned", "learned.shuffle", "learned.layer_mean", "random", "snip", "slow")

    assert {**{(m, s): 1 for m in methods for s in budgets}, ("dense", 0.0): 1} == dict(counts)
    assert {"run": len(list((workspace.cache / "artifacts").glob("*/*"))), "reuse": 0, "resume": 0} == report["steps"]
    for result in report["results"]:
        assert round((1 - result["sparsity"]) * result["total"]) == result["kept"]
        assert 1 - result["kept"] / result["total"] <= result["effective_sparsity"] < 1
        assert 0 <= result["test_accuracy"] <= 100
        assert result["macs"] <= result["dense_macs"]
        if result["method"] == "dense":
            assert (None, None) == (result["effective_nodes"], result["paths"])
        else:
            assert result["effective_macs"] <= result["macs"]
            assert 0 <= result["effective_nodes"] <= 1
            assert (result["paths"] is None) == (result["effective_sparsity"] == 1)
    assert [0.8, 0.9] == [model["sparsity"] for model in report["emitted"]]
    assert all(Path(model["path"]).is_absolute() and model["max_abs_error"] == 0 for model in report["emitted"])


def test_an_emitted_model_loads_into_the_plain_network(finished: tuple[Workspace, Ended]) -> None:
    """Three lines of torch load the emitted model; masked weights are zero; the card names the network."""
    emitted = finished[1].json["emitted"][1]
    folder = Path(emitted["path"])
    card = json.loads((folder / "card.json").read_text())
    network = models["resnet8"].function(tuple(card["network"]["shape"]), card["network"]["classes"], width=4)
    state = load_file(folder / "model.safetensors")
    network.load_state_dict(state)
    masks = load_file(folder / "masks.safetensors")

    assert ([*"0123456789"], "L", [8, 8]) == (card["classes"], card["images"]["channels"], card["images"]["size"])
    assert card["accuracy"]["kept"] == sum(int(mask.sum()) for mask in masks.values())
    assert all(bool((state[name][~mask] == 0).all()) for name, mask in masks.items())
    assert {"init", "data", "mask", "train", "evaluate"} == set(card["provenance"])


def test_a_second_run_has_nothing_to_run(finished: tuple[Workspace, Ended]) -> None:
    """The same command again reuses everything, says so, and keeps to its folder."""
    workspace, first = finished
    again = workspace.run("run", "small.yaml", "--json")

    assert 0 == again.code
    assert "nothing to run" in again.err
    assert {"run": 0, "reuse": first.json["steps"]["run"], "resume": 0} == again.json["steps"]
    assert first.json["results"] == again.json["results"]
    assert first.json["run"] == again.json["run"]


def test_a_new_budget_runs_only_what_depends_on_it(finished: tuple[Workspace, Ended]) -> None:
    """Data, initialization, IRP, labels, tuning and scorer are reused at another sparsity."""
    workspace, _ = finished
    plan = workspace.run("plan", "small.yaml", "--budget", "0.7", "--json").json

    assert {"mask", "train", "evaluate", "emit"} == {s["operation"] for s in plan["steps"] if s["status"] == "run"}
    assert [0.7] == plan["budgets"]


@pytest.mark.slow
def test_budgets_in_other_currencies(workspace: Workspace) -> None:
    """Multiply-adds are kept to by every method with its own sparsity; columns, steps and folders are named alike."""
    asked = ("--budget", "0.9", "--budget", "parameters=674", "--budget", "macs=5k", "--budget", "macs=10.0%")
    methods = ("--set", "method=snip", "--set", "controls=[shuffle]")
    ended = workspace.run("run", "small.yaml", "--json", *asked, *methods)
    results = {(r["method"], r["budget"]): r for r in [*ended.json["results"], *ended.json["controls"]]}
    within = [result for (_, budget), result in results.items() if budget == "5k macs"]
    relative = [result for (_, budget), result in results.items() if budget == "10% macs"]
    folders = {Path(model["path"]).parent.name: model["sparsity"] for model in ended.json["emitted"]}
    shown = workspace.run("report").out

    assert 0 == ended.code
    # Weights of the first layers are used 64 times: no budget is met more closely than that.
    assert all(5000 - 64 < result["macs"] <= 5000 for result in within)
    assert len({result["sparsity"] for result in within}) > 2
    assert all(result["sparsity"] == pytest.approx(1 - result["kept"] / 4964, abs=1e-3) for result in within)
    for field in ("kept", "macs", "sparsity", "test_accuracy"):  # 178 + 496: one network, twice asked for
        assert results["snip", "0.9"][field] == results["snip", "674 parameters"][field]
    assert results["snip", "5k macs"]["kept"] == results["snip.shuffle", "5k macs"]["kept"]  # the same quotas
    assert {
        "snip-0.9-seed0": 0.9,
        "snip-674-parameters-seed0": 0.9,
        "snip-5k-macs-seed0": results["snip", "5k macs"]["sparsity"],
        "snip-10-percent-macs-seed0": results["snip", "10% macs"]["sparsity"],
    } == folders
    limit = results["snip", "0.9"]["dense_macs"] // 10
    assert {"10% macs": limit} == ended.json["limits"]
    assert all(limit - 64 < result["macs"] <= limit for result in relative)
    assert f"10% macs: at most {limit:,}" in shown
    exported = workspace.run("export", "--budget", "macs=10%", "--format", "compact", "--json").json["emitted"]
    assert ["10% macs"] == [model["budget"] for model in exported]
    assert all(column in shown for column in ("sparsity 0.9", "674 parameters", "5k macs"))


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["irp", "trial", "train"])
def test_a_killed_run_resumes(finished: tuple[Workspace, Ended], workspace: Workspace, operation: str) -> None:
    """After `kill -9` in a round, a trial or a training, the same command goes on and ends with equal bytes."""
    process = workspace.start("run", "small.yaml", "--quiet")
    _wait_for(workspace, operation)
    process.kill()
    process.communicate()
    kept = len(list((workspace.cache / "artifacts").glob("*/*")))
    ended = workspace.run("run", "small.yaml", "--json")

    assert -signal.SIGKILL == process.returncode
    assert 0 == ended.code
    assert ended.json["steps"]["reuse"] >= kept - 1
    assert ended.json["steps"]["run"] > 0
    assert finished[0].digests() == workspace.digests()


@pytest.mark.slow
@pytest.mark.parametrize(
    "tuning",
    [
        "trials: 5, parallel: 2",
        "trials: 8, parallel: 2, pruner: median, proxy: {weight: 0.5}, selections: [top, shuffle]",
    ],
)
def test_a_killed_study_goes_on_in_its_batches(workspace: Workspace, tmp_path: Path, tuning: str) -> None:
    """After `kill -9` within a batch of trials the rest is proposed as in a study that was never stopped."""
    method = "method={preset: learned, selection: tuned}"
    command = ("run", "small.yaml", "--quiet", "--only", "tune", "--set", f"tuning={{{tuning}}}", "--set", method)
    whole = Workspace(tmp_path / "whole")
    whole.folder.mkdir()
    shutil.copy(workspace.folder / "small.yaml", whole.folder)
    assert 0 == whole.run(*command).code
    process = workspace.start(*command)
    _wait_for(workspace, "trial", 3)
    process.kill()
    process.communicate()
    assert 0 == workspace.run(*command).code

    results, expected = (
        {path.parent.name: path.read_bytes() for path in (p.cache / "artifacts" / "trial").glob("*/result.json")}
        for p in (workspace, whole)
    )
    assert int(tuning.split(",")[0].removeprefix("trials: ")) == len(expected)
    assert expected == results


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_stops_a_run_cleanly(workspace: Workspace, sent: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM stop a run, which names the kept steps and how to resume, and leaves no draft."""
    process = workspace.start("run", "small.yaml")
    _wait_for(workspace, "irp")
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)

    assert code == process.returncode
    assert "steps are kept" in err
    assert "the same command resumes" in err
    assert "Traceback" not in err
    assert [] == list((workspace.cache / "drafts").glob("*"))


@pytest.mark.slow
def test_two_runs_at_once_share_the_work(finished: tuple[Workspace, Ended], workspace: Workspace) -> None:
    """Two processes with one spec make every artifact once and end with the same results."""
    processes = [workspace.start("run", "small.yaml", "--json", "--out", f"run{number}") for number in (1, 2)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in processes]

    assert reports[0]["results"] == reports[1]["results"] == finished[1].json["results"]
    assert finished[1].json["steps"]["run"] == sum(report["steps"]["run"] for report in reports)


def test_a_damaged_artifact_is_set_aside_and_made_again(
    finished: tuple[Workspace, Ended], workspace: Workspace
) -> None:
    """A wrong byte is noticed when it is read; one line says so, and the step is run again."""
    shutil.copytree(finished[0].cache, workspace.cache)
    damaged = next((workspace.cache / "artifacts" / "evaluate").glob("*/result.json"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    ended = workspace.run("run", "small.yaml", "--json")

    assert 0 == ended.code
    assert 1 == ended.err.count("is damaged")
    assert ended.json["results"] == finished[1].json["results"]
    assert 1 == len(list((workspace.cache / "damaged").glob("evaluate-*")))
    assert 0 == workspace.run("cache", "verify").code


@pytest.mark.slow
def test_a_damaged_input_is_made_again_before_it_is_used(
    finished: tuple[Workspace, Ended], workspace: Workspace
) -> None:
    """A step that finds its input damaged has that input made again, and then runs on it."""
    shutil.copytree(finished[0].cache, workspace.cache)
    for operation in ("train", "evaluate", "emit"):
        shutil.rmtree(workspace.cache / "artifacts" / operation)
    for path in (workspace.cache / "artifacts" / "mask").glob("*/masks.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    ended = workspace.run("run", "small.yaml", "--json")

    assert 0 == ended.code
    assert finished[0].digests() == workspace.digests()
    assert ended.json["results"] == finished[1].json["results"]


def test_a_failing_step_keeps_what_was_before_it(workspace: Workspace) -> None:
    """A step that fails costs what depends on it, exit code 1 and one sentence; what finished is kept."""
    ended = workspace.run("run", "small.yaml", "--set", "training.lr=1e9", "--set", "irp.training.epochs=1")

    assert 1 == ended.code
    assert "failed: training diverged" in ended.err
    assert "hint: lower `training.lr`" in ended.err
    assert "Traceback" not in ended.err


def _wait_for(workspace: Workspace, operation: str, number: int = 1) -> None:
    deadline = time.monotonic() + 120
    while len(list((workspace.cache / "artifacts" / operation).glob("*"))) < number:
        assert time.monotonic() < deadline, f"no {operation} artifact appeared"
        time.sleep(0.01)


def test_a_run_leaves_its_log_and_metrics(finished: tuple[Workspace, Ended]) -> None:
    """Metrics of every step, in the plan's order, whether it was made or reused."""
    workspace, ended = finished
    folder = workspace.folder / ended.json["run"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    known = {line["step"]: line["metrics"] for line in lines}

    assert {"step", "operation", "purpose", "key", "metrics"} == lines[0].keys()
    assert ended.json["irp"][0]["validation_accuracy"] == known["irp/seed100/round1"]["validation_accuracy"]
    assert all(len(document["losses"]) for name, document in known.items() if name.startswith("train/"))
    assert "run starts" in (folder / "log.txt").read_text().splitlines()[0]
