"""`export`: models of any method of a run, in any format, from what the run left in the cache."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import autosparse
from autosparse.backends import machine, this_machine
from autosparse.exporters import exporters
from autosparse.planning.compile import compile_plan
from autosparse.report.build import copy_emitted
from autosparse.report.finished import Finished
from autosparse.report.warnings import failed_emissions
from autosparse.spec import load_spec, resolve
from autosparse.store import Artifact, Store
from tests.conftest import Ended, Workspace, call


def test_a_run_tells_how_its_models_compare(finished: tuple[Workspace, Ended]) -> None:
    """Bytes, latencies of one and of many images against the dense network, and the accuracy after reloading."""
    workspace, ended = finished
    emitted, results = ended.json["emitted"], ended.json["results"]

    assert [0.8, 0.9] == [model["sparsity"] for model in emitted]
    for model in emitted:
        original = [r for r in results if (r["method"], r["sparsity"], r["seed"]) == ("learned", model["sparsity"], 0)]
        assert original[0]["test_accuracy"] == pytest.approx(model["test_accuracy"])
        assert (0, 0) == (model["max_abs_error"], model["max_rel_error"])
        assert model["bytes"] > model["dense_bytes"]
        assert {"1", "32"} == model["speeds"].keys()
        for speed in model["speeds"].values():
            assert 0 < speed["emitted_ms"]["low"] <= speed["emitted_ms"]["median"] <= speed["emitted_ms"]["high"]
            assert speed["dense_ms"] == speed["torch_ms"]
            assert speed["runtime_gain"] is None
        assert (model["latency_ms"], model["dense_latency_ms"]) == (
            model["speeds"]["1"]["emitted_ms"]["median"],
            model["speeds"]["1"]["dense_ms"]["median"],
        )
    assert "against the dense network" in workspace.run("report").out


def test_a_report_checks_each_model_once(
    finished: tuple[Workspace, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads a model's files for the check and for the copy; refused formats need none of them."""
    spec = load_spec(finished[0].folder / "small.yaml").spec
    plan = compile_plan(resolve(spec, this_machine()), "small")
    done, read, files = Finished.of(plan, Store(finished[0].cache), ()), list[str](), Artifact.read

    def recorded(artifact: Artifact, name: str) -> bytes:
        read.append(name)
        return files(artifact, name)

    monkeypatch.setattr(Artifact, "read", recorded)
    emitted, refused = copy_emitted(done, tmp_path), failed_emissions(done)

    assert (2, []) == (len(emitted), refused)
    assert 2 * len(emitted) == read.count("masks.safetensors")


@pytest.mark.slow
def test_any_method_of_a_run_in_any_format(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """The network comes back with the accuracy that the run measured; a second export measures only with `--force`."""
    workspace, ended = replace(finished[0], folder=tmp_path / "own"), finished[1]
    shutil.copytree(finished[0].folder, workspace.folder)
    asked = ("export", ended.json["run"], "--method", "snip", "--budget", "0.9", "--format", "compact", "--json")
    first, again = (workspace.run(*asked, "--out", name) for name in ("out", "other"))
    forced = workspace.run(*asked, "--out", "forced", "--force")
    (model,) = first.json["emitted"]
    (original,) = [r for r in ended.json["results"] if (r["method"], r["sparsity"], r["seed"]) == ("snip", 0.9, 0)]
    network = autosparse.load(model["path"])

    assert (0, 0) == (first.code, again.code), first.err
    assert ("compact", "snip", original["kept"]) == (
        model["format"],
        model["method"],
        sum(int((weight != 0).sum()) for weight in network.parameters() if weight.ndim > 1),
    )
    assert original["test_accuracy"] == pytest.approx(model["test_accuracy"])
    assert model["bytes"] < model["dense_bytes"]
    assert (10,) == tuple(network(torch.zeros(1, 1, 8, 8)).shape[1:])
    assert {**model, "path": ""} == {**again.json["emitted"][0], "path": ""}
    assert model["bytes"] == forced.json["emitted"][0]["bytes"]
    assert model["speeds"] != forced.json["emitted"][0]["speeds"]
    assert "against the dense network" in workspace.run(*asked[:-1]).out


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (("--method", "snp"), "has no method `snp` with masks\nhint: did you mean `snip`?"),
        (("--method", "dense"), "has no method `dense` with masks"),
        (("--budget", "0.5"), "has no budget 0.5\nhint: it has 0.8, 0.9"),
        (("--seed", "7"), "has no seed 7\nhint: it has 0"),
        (("--format", "onyx"), "there is no format `onyx`"),
        (("--format", "{name: compact, values: int4}"), "`emit[0].values` must be"),
        (("--study", "s.db", "--format", "compact"), "`--study` writes trials, which have no `--format`"),
        (("--out", "."), ". holds something else"),
    ],
)
def test_what_a_run_does_not_have(
    finished: tuple[Workspace, Ended],
    here: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    text: str,
) -> None:
    """Exit 2, what there is, and nothing emitted."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(finished[0].cache))
    run = finished[0].folder / finished[1].json["run"]
    ended = call(capsys, shlex.join(["export", str(run), *asked]))

    assert 2 == ended.code
    assert text in ended.err


def test_an_export_trains_nothing(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """If the cache has lost the run's trainings, it says so, however short they are."""
    workspace, ended = finished
    result = replace(workspace, folder=tmp_path).run("export", str(workspace.folder / ended.json["run"]))

    assert 2 == result.code
    assert "of the run are not in the cache any more, and an export trains nothing" in result.err


@pytest.mark.slow
def test_smaller_networks_of_a_run(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """Without channels that SNIP left dead, in torch's layers and in sparse ones: the run's accuracy after a reload."""
    workspace, ended = replace(finished[0], folder=tmp_path / "own"), finished[1]
    shutil.copytree(finished[0].folder, workspace.folder)
    formats = ("--format", "shrunk", "--format", "sparse", "--format", "{name: pt2, shrink: false}")
    result = workspace.run("export", ended.json["run"], "--method", "snip", "--budget", "0.9", *formats, "--json")
    (original,) = [r for r in ended.json["results"] if (r["method"], r["sparsity"], r["seed"]) == ("snip", 0.9, 0)]

    assert 0 == result.code, result.err
    assert ["shrunk", "sparse", "pt2-no_shrink"] == [model["format"] for model in result.json["emitted"]]
    for model in result.json["emitted"]:
        assert original["test_accuracy"] == pytest.approx(model["test_accuracy"])
        assert 1e-4 > model["max_rel_error"]
    shrunk, sparse, _ = result.json["emitted"]
    assert max(shrunk["bytes"], sparse["bytes"]) < shrunk["dense_bytes"]
    for model in (shrunk, sparse):
        network = autosparse.load(model["path"])
        assert (3, 10) == network(torch.zeros(3, 1, 8, 8)).shape


USER_NETWORK = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.last = torch.nn.Linear(inputs, 20), torch.nn.Linear(20, outputs)

    def forward(self, images):
        hidden = torch.relu(self.first(images.flatten(1)))
        return self.last(hidden if float(hidden.detach().sum()) > 0 else -hidden)

def net(shape, classes):
    return Net(shape[0] * shape[1] * shape[2], classes)
"""
OWN_SPEC = """\
version: 1
model: net.py:net
dataset: digits
budget: [0.5]
target: {device: cpu, threads: 1}
method: erk
compare: []
controls: []
training: {epochs: 1, flip: false, precision: float32}
emit: [safetensors, shrunk]
"""


@pytest.mark.slow
def test_a_format_that_a_network_does_not_have_is_not_emitted(tmp_path: Path) -> None:
    """The run goes on and says why; an export of that alone fails. What can be emitted is."""
    workspace = Workspace(tmp_path)
    (tmp_path / "net.py").write_text(USER_NETWORK)
    (tmp_path / "own.yaml").write_text(OWN_SPEC)
    ended = workspace.run("run", "own.yaml", "--json")
    exported = workspace.run("export", ended.json["run"], "--format", "shrunk", "--out", "out")
    printed = "shrunk of erk at 0.5 is not exported: torch.export does not record it: "

    assert (0, 1) == (ended.code, exported.code), ended.err
    assert ["safetensors"] == [model["format"] for model in ended.json["emitted"]]
    assert [printed] == [warning[: len(printed)] for warning in ended.json["warnings"] if "not exported" in warning]
    assert printed in exported.err
    assert ["safetensors"] == [folder.name for folder in (tmp_path / ended.json["run"] / "models").glob("*/*")]


def test_what_a_format_needs_is_asked_for_before_anything_runs(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 5 and the command that installs it; a plan warns."""
    absent = {"onnxruntime": "not installed"}
    monkeypatch.setattr(machine, "version_of", lambda package: absent.get(package, "1.0"))
    asked = "small.yaml --set emit=[onnx]"
    planned, ended = call(capsys, f"plan {asked}"), call(capsys, f"run {asked}")
    printed = "format `onnx` needs extra `onnx`, which is not installed\nhint: run `pip install 'autosparse[onnx]'`"

    assert (0, 5) == (planned.code, ended.code)
    assert f"warning: {printed}" in planned.err
    assert printed in ended.err
    assert not (here.cache / "artifacts").exists()


VIT = "{name: 'timm:vit_tiny_patch16_224', img_size: 32, patch_size: 8, depth: 2, embed_dim: 32, num_heads: 2}"
NETWORKS = ["mlp", VIT]  # `exporters/test_formats.py` opens those of other kinds
OF_OTHERS = {"preprocessor_config.json", "model.slices.safetensors"}  # a transformers network, a smaller network


@pytest.mark.slow
@pytest.mark.parametrize("model", NETWORKS, ids=["mlp", "vit"])
def test_every_format_of_any_kind_of_network(tmp_path: Path, model: str) -> None:
    """In a process that never saw the network: its predictions, equal or within 1e-4."""
    workspace = Workspace(tmp_path)
    (tmp_path / "own.yaml").write_text(
        OWN_SPEC.replace("net.py:net", model)
        .replace("dataset: digits", "dataset: {name: digits, size: 32, images_per_class: 30, test: 40}")
        .replace("method: erk", "method: snip")
        .replace("[0.5]", "[0.95]")
        .replace("[safetensors, shrunk]", f"[{', '.join(exporters.names)}]")
    )
    ended = workspace.run("run", "own.yaml", "--json")
    (original,) = ended.json["results"]

    assert 0 == ended.code, ended.err
    assert [*exporters.names] == [emitted["format"] for emitted in ended.json["emitted"]], ended.json["warnings"]
    for emitted in ended.json["emitted"]:
        assert original["test_accuracy"] == pytest.approx(emitted["test_accuracy"])
        assert (0 if exporters[emitted["format"]].facts["exact"] else 1e-4) >= emitted["max_rel_error"]
        files = {path.name for path in Path(emitted["path"]).iterdir()}
        assert {*exporters[emitted["format"]].facts.get("optional", ())} - OF_OTHERS <= files


@pytest.mark.slow
def test_a_model_card_of_a_run(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """With the controls that the run made for its method; of another method it has none. The folder loads as it is."""
    workspace, ended = replace(finished[0], folder=tmp_path / "own"), finished[1]
    shutil.copytree(finished[0].folder, workspace.folder)
    asked = ("export", ended.json["run"], "--budget", "0.9", "--format", "{name: hub, license: mit}", "--json")
    result, other = workspace.run(*asked, "--out", "own"), workspace.run(*asked, "--out", "other", "--method", "snip")
    cards = [(Path(e.json["emitted"][0]["path"]) / "README.md").read_text() for e in (result, other)]
    (shuffled,) = [c for c in ended.json["controls"] if (c["method"], c["sparsity"]) == ("learned.shuffle", 0.9)]

    assert f"| control learned.shuffle | {shuffled['test_accuracy']:.2f} | 0 |" in cards[0]
    assert "license: mit\n" in cards[0]
    assert "| snip | " in cards[1]
    assert "control" not in cards[1].split("## Use")[0].split("\n\n")[2]
    assert isinstance(autosparse.load(result.json["emitted"][0]["path"]), torch.nn.Module)
