"""Networks that start from trained weights: from the spec to the report and the emitted model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from autosparse.api.load import load
from autosparse.models import build_model
from autosparse.store import dump_tensors, load_tensors
from tests.conftest import Ended, Workspace, call

SPEC = """\
version: 1
model: {name: mlp, widths: [24], initialization: {file: weights/w.safetensors}}
dataset: digits
budget: 0.7
method: magnitude
compare: [irp, mask_search]
controls: []
seeds: [0, 1]
sanity: {methods: [magnitude], checks: [reinitialize]}
irp: {per_round: 0.5}
target: {device: cpu, threads: 1}
training: {epochs: 1, batch: 512, lr: 1.0e-30, weight_decay: 0, crop: 0, flip: false, precision: float32}
emit: [safetensors]
"""
INITIAL = "model.initialization"
LEARNED = ("method=learned", "tuning.trials=0", "irp.rounds=2", "compare=[random]", "sanity=null")
OFF = "these results are not pruning at initialization"


def trained(seed: int = 0, classes: int = 10) -> torch.nn.Module:
    """A network that no seed of the spec draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        return build_model("mlp", {"widths": (24,)}, (1, 8, 8), classes)


def write(folder: Path, spec: str = SPEC) -> Path:
    """The spec and its weights."""
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "weights" / "w.safetensors").write_bytes(dump_tensors(dict(trained().state_dict())))
    (folder / "start.yaml").write_text(spec)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Ended]:
    """The spec, run to its end: look, do not touch."""
    workspace = Workspace(write(tmp_path_factory.mktemp("trained")))
    ended = workspace.run("run", "start.yaml", "--json")
    assert 0 == ended.code, ended.err
    return workspace, ended


def tensors(workspace: Workspace, operation: str, file: str, **inputs: str) -> list[dict[str, torch.Tensor]]:
    """A file of every artifact of an operation whose step has a name like one of these."""
    folders = sorted((workspace.cache / "artifacts" / operation).glob("*"))
    return [load_tensors((folder / f"{file}.safetensors").read_bytes()) for folder in folders]


@pytest.mark.slow
def test_every_seed_begins_with_the_file(made: tuple[Workspace, Ended]) -> None:
    """All parameters of `init` are the file's, at both seeds."""
    state, starts = trained().state_dict(), tensors(made[0], "init", "state")

    assert 2 == len(starts)
    assert all(torch.equal(start[name], state[name]) for start in starts for name in state)


@pytest.mark.slow
def test_irp_rewinds_to_the_file(made: tuple[Workspace, Ended]) -> None:
    """At a rate that changes nothing, every round ranks the file's weights, and training ends with those it keeps."""
    state = trained().state_dict()
    rounds = tensors(made[0], "irp", "scores")

    assert 4 == len(rounds)
    for scores in rounds:
        for name, score in scores.items():
            ranked = score > 0
            torch.testing.assert_close(state[name].abs()[ranked], score[ranked], rtol=0, atol=0)
            assert 0.4 < float(ranked.float().mean())
    networks = tensors(made[0], "train", "state")  # of magnitude, IRP and a mask search
    assert 6 == len(networks)
    for network in networks:
        for name, tensor in network.items():
            assert torch.equal(tensor[tensor != 0], state[name][tensor != 0]), name


@pytest.mark.slow
def test_criteria_score_the_file(made: tuple[Workspace, Ended]) -> None:
    """Magnitude keeps the largest weights of the file."""
    weights = {name: one.abs() for name, one in trained().state_dict().items() if name.endswith("weight")}
    order = torch.cat([one.flatten() for one in weights.values()]).sort(descending=True).values
    keep = round(0.3 * len(order))
    expected = {name: one >= order[keep - 1] for name, one in weights.items()}

    assert any(all(torch.equal(masks[n], expected[n]) for n in masks) for masks in tensors(made[0], "mask", "masks"))


@pytest.mark.slow
def test_the_report_says_so(made: tuple[Workspace, Ended]) -> None:
    """Each form of the report names the file and its digest; a check that draws other weights is left out."""
    workspace, ended = made
    expected = "networks start from trained weights (w.safetensors, sha256 "

    assert [expected, OFF] == [ended.json["warnings"][0][: len(expected)], ended.json["warnings"][0][-len(OFF) :]]
    assert "of which there is one draw" in ended.out
    assert "w.safetensors" == ended.json["start"]["weights"]
    for form in ("--html report.html", "--md", ""):
        shown = workspace.run("report", *form.split())
        text = shown.out + "".join(path.read_text() for path in workspace.folder.glob("*.html"))
        assert 0 == shown.code
        assert OFF in " ".join(text.split()).replace("&#39;", "'"), form
        assert "w.safetensors" in text


@pytest.mark.slow
def test_later_steps_need_no_file(made: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """Without the file its pinned digest plans the same steps; the model loads; its card describes the structure."""
    workspace = Workspace(tmp_path / "moved")
    shutil.copytree(made[0].folder, workspace.folder)
    shutil.rmtree(workspace.folder / "weights")
    card = json.loads(next(workspace.folder.glob("runs/*/models/*/safetensors/card.json")).read_text())
    start = card["network"]["model"]["start"]
    pinned = workspace.run("run", "start.yaml", "--json", "--set", f"{INITIAL}.sha256={start['sha256']!r}")
    retrained = workspace.run(
        "run", "start.yaml", "--json", "--set", f"{INITIAL}.sha256={start['sha256']!r}", "--set", "training.epochs=2"
    )
    lost = workspace.run("run", "start.yaml")

    assert (0, 0) == (pinned.json["steps"]["run"], pinned.code)
    assert (0, made[1].json["steps"]["run"]) > (-1, retrained.json["steps"]["run"]) > (-1, 0)
    assert "default" == card["network"]["model"]["options"]["initialization"]
    assert isinstance(load(next(workspace.folder.glob("runs/*/models/*/safetensors"))), torch.nn.Module)
    assert 5 == lost.code
    assert "weights/w.safetensors does not exist\nhint:" in lost.err


def keys(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, str]:
    """Step -> key of the plan."""
    ended = call(capsys, " ".join(["plan start.yaml --json", *(f"--set '{one}'" for one in overrides)]))
    assert 0 == ended.code, ended.err
    return {step["name"]: step["key"] for step in ended.json["steps"]}


def test_keys_follow_the_content(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A moved file is the same start, a changed one or other skipped tensors another plan."""
    write(here.folder)
    before = keys(capsys)
    (here.folder / "weights" / "w.safetensors").rename(here.folder / "moved.bin")
    assert before == keys(capsys, f"{INITIAL}.file=moved.bin")

    skipped = keys(capsys, f"{INITIAL}.file=moved.bin", f"{INITIAL}.skip=[3.*]")
    plain = keys(capsys, f"{INITIAL}=default")
    torch.save(trained(1).state_dict(), "moved.bin")
    changed = keys(capsys, f"{INITIAL}.file=moved.bin")
    for one in (skipped, plain, changed):
        assert {name for name in before if before[name] == one[name]} == {"data/digits"}


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        (f"{INITIAL}.file=nowhere.pt", 0, "warning: weights file {folder}/nowhere.pt does not exist\nhint: name a"),
        ("model.widths=[25]", 2, "start.yaml:2:50: w.safetensors does not fit the network: `1.weight` is [24, 64] in"),
        (
            "dataset={name: digits, classes: [0, 1], validation: 9}",
            2,
            'skip: ["3.*"]}}` keeps the random weights of these',
        ),
        (f"{INITIAL}={{filee: w}}", 2, "unknown key `filee` in `model.initialization`\nhint: did you mean `file`?"),
        (f"{INITIAL}={{}}", 2, "`model.initialization.file` is required"),
        (f"{INITIAL}=kaiming", 2, "must be 'default', 'kaiming_normal',"),
        (f"{INITIAL}.skip=fc", 2, "`model.initialization.skip` must be a list but is"),
        (f"{INITIAL}.sha256=abc", 2, "`model.initialization.sha256` must match"),
        ("scorer.pretrained=cifar-v1", 0, OFF),
    ],
)
def test_what_a_plan_says(
    here: Workspace, capsys: pytest.CaptureFixture[str], override: str, code: int, message: str
) -> None:
    """A missing file is a warning; weights that do not fit, and labels from the network to prune, are mistakes."""
    write(here.folder)
    ended = call(capsys, f"plan start.yaml --set '{override}'")

    assert code == ended.code, ended.err
    assert message.format(folder=here.folder) in ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "IRP would train the network to prune, which starts from the same trained weights at every seed"),
        (["irp.model=lenet"], "the scorer learns from networks at initialization and scores trained weights: its"),
        (
            [
                f"{INITIAL}=default",
                "irp.model={name: mlp, widths: [24], initialization: {file: weights/w.safetensors}}",
            ],
            "the scorer learns from trained weights and scores networks at initialization: its",
        ),
        (["scorer.pretrained=cifar-v1"], "scorer cifar-v1 scores trained weights; if it learned at initialization,"),
    ],
)
def test_scorers_of_another_kind_of_start(
    here: Workspace, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    """Labels from the network to prune are refused; from another kind of start they are planned with a warning."""
    write(here.folder)
    line = " ".join(f"--set '{one}'" for one in [*LEARNED, *overrides])
    ended = call(capsys, f"plan start.yaml {line}")

    assert (0 if overrides else 2) == ended.code, ended.err
    assert f"{'warning: ' if overrides else 'error: start.yaml:2:8: '}{message}" in ended.err


@pytest.mark.slow
def test_a_scorer_of_an_earlier_run_is_not_judged_on_what_it_learned_from(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It learned from the trained start at another seed; the same structure without it is another network."""
    write(here.folder)
    line = " ".join(f"--set '{one}'" for one in LEARNED)
    source = "irp.model={name: mlp, widths: [24], initialization: {file: weights/w.safetensors}}"
    learned = call(capsys, f"run start.yaml --json --quiet {line} --set {INITIAL}=default --set '{source}'")
    assert 0 == learned.code, learned.err
    folder = Path(learned.json["scorer"]["path"])
    assert 1 == len(json.loads((folder / "scorer.json").read_text())["starts"])

    line = f"plan start.yaml --set method=learned --set sanity=null --set scorer.pretrained={folder} --set seeds=[7]"
    refused, skipped, other = (
        call(capsys, f"{line} --set {INITIAL}{value}") for value in (".skip=[]", ".skip=[3.*]", "=default")
    )

    assert (2, 2, 0) == (refused.code, skipped.code, other.code), other.err
    assert "learned from the network to prune, which starts from the same trained weights at every seed" in refused.err
    assert "hint: take a scorer that learned from another network" in refused.err


def test_reasons_name_the_start(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`init` runs because the digest of the weights differs, by its path in the spec."""
    write(here.folder)
    assert 0 == call(capsys, "run start.yaml --only 'init/*' --quiet").code
    torch.save(trained(1).state_dict(), "w.pt")
    planned = call(capsys, f"plan start.yaml --json --set {INITIAL}.file=w.pt")

    reasons = {step["name"]: step["reason"] for step in planned.json["steps"]}
    assert reasons["init/mlp/seed0"].startswith("model.initialization.sha256 ")


def test_weights_that_change_while_a_plan_runs(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A start that is not the planned one is not stored under the planned one's key."""
    net = "import pathlib, torch\nfrom torch import nn\n"
    net += "def build(shape, classes):\n    file = pathlib.Path('w.pt')\n"
    net += "    if pathlib.Path('now').exists():\n        file.write_bytes(b'other')\n"
    net += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    (here.folder / "net.py").write_text(net)
    torch.save({f"module.1.{name}": one for name, one in torch.nn.Linear(64, 10).state_dict().items()}, "w.pt")
    write(
        here.folder,
        SPEC.replace("{name: mlp, widths: [24], ", "{name: 'net.py:build', ").replace("weights/w.safetensors", "w.pt"),
    )
    assert 0 == call(capsys, "plan start.yaml").code
    (here.folder / "now").touch()
    ended = call(capsys, "run start.yaml --only 'init/*'")

    assert 1 == ended.code
    assert "failed: the weights of w.pt have changed since they were planned" in ended.err


def test_the_file_is_relative_to_the_spec(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A saved plan and another directory find the weights of the spec."""
    write(here.folder / "sub")
    assert 0 == call(capsys, "plan sub/start.yaml --out p.json").code
    rendered = call(capsys, "render sub/start.yaml --json")

    assert (
        str(here.folder / "sub" / "weights" / "w.safetensors")
        == rendered.json["resolved"]["model"]["initialization"]["file"]
    )
    assert "w.safetensors, sha256" in call(capsys, "plan p.json").err
    assert '"sub/weights/w.safetensors"' in (here.folder / "p.json").read_text()
