"""Pretrained scorers: what a run leaves, plans without IRP, and folders that are refused."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import autosparse
from autosparse import backends
from autosparse.backends import this_machine
from autosparse.errors import StepError, UsageError
from autosparse.execute import Everyone, Execution
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.pretrained import DEFAULT, pretrained_scorers
from autosparse.spec import load_spec, resolve, spec_schema
from autosparse.steps.scorer import read_scorer
from autosparse.store import Store, digest, dump_tensors, file_digest
from tests.conftest import SMALL, Ended, Workspace, call
from tests.sealing import edit

LEARNING = {"irp", "label", "trial", "tune"}
TAKES = "".join(
    line for line in SMALL.splitlines(keepends=True) if line.split(":")[0] not in ("irp", "scorer", "tuning")
)
Validator: Any = importlib.import_module("jsonschema").Draft202012Validator


@pytest.fixture
def folder(finished: tuple[Workspace, Ended], here: Workspace) -> Path:
    """A scorer's folder as the small spec's run left it, and `takes.yaml`, which names it."""
    left = finished[0].folder / finished[1].json["run"] / "scorer"
    (here.folder / "takes.yaml").write_text(f"{TAKES}scorer: {{pretrained: scorer}}\n")
    shutil.copytree(left, here.folder / "scorer")
    return here.folder / "scorer"


def plan(path: Path, *overrides: str) -> Plan:
    """The plan of a spec."""
    return compile_plan(resolve(load_spec(path, overrides=overrides).spec, this_machine()), "takes")


def test_a_run_leaves_its_scorer(finished: tuple[Workspace, Ended]) -> None:
    """The folder holds the tensors of the scorer step and says what another plan must know."""
    workspace, ended = finished
    folder = Path(ended.json["scorer"]["path"])
    about = json.loads((folder / "scorer.json").read_text())

    assert (workspace.folder / ended.json["run"] / "scorer").resolve() == folder
    assert ["card.json", "scorer.json", "state.safetensors"] == sorted(path.name for path in folder.iterdir())
    assert ("mlp", 1, ended.json["scorer"]["options"]) == (about["name"], about["version"], about["options"])
    assert {"magnitude": 1, "gradient": 1, "sensitivity": 1, "channels": 1, "layer": 1} == about["features"]
    assert file_digest(folder / "state.safetensors") == about["sha256"]
    assert "scorer saved in" in workspace.run("report", "--wide").out


@pytest.mark.slow
def test_a_pretrained_scorer_needs_no_irp(
    finished: tuple[Workspace, Ended], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its plan has no step that learns, and gives the results of the run that trained it."""
    ended = call(capsys, "run takes.yaml --json")
    again = call(capsys, "run takes.yaml --json")
    shown = call(capsys, "report --wide")

    assert 0 == ended.code, ended.err
    steps = call(capsys, "plan takes.yaml --json").json["steps"]
    assert not LEARNING & {step["operation"] for step in steps}
    assert ["pretrained"] == [step["operation"] for step in steps if step["name"] == "scorer"]
    assert finished[1].json["results"] == ended.json["results"]
    assert finished[1].json["controls"] == ended.json["controls"]
    assert (True, None, [], None) == tuple(
        ended.json["scorer"][name] for name in ("pretrained", "rank_correlation", "trials", "path")
    )
    assert ([], 0) == (ended.json["irp"], again.json["steps"]["run"])
    printed = " ".join(shown.out.split())
    assert "scorer, pretrained; its training cost is not included" in printed
    assert ended.json["scorer"]["taken_from"].endswith("scorer")


def test_it_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    """Another place, name or layout of the same scorer gives the same keys; other tensors or options do not."""
    spec = tmp_path / "takes.yaml"
    first = plan(spec)
    folder.rename(tmp_path / "moved")
    about = tmp_path / "moved" / "scorer.json"
    about.write_text(json.dumps(json.loads(about.read_text()), sort_keys=True))
    moved = plan(spec, f"scorer.pretrained={tmp_path / 'moved'}")
    state = dump_tensors({"columns": torch.tensor([0])})
    (tmp_path / "moved" / "state.safetensors").write_bytes(state)
    edit(about, lambda value: {**value, "sha256": file_digest(tmp_path / "moved" / "state.safetensors")})
    other = plan(spec, f"scorer.pretrained={tmp_path / 'moved'}")

    assert first.digest == moved.digest
    assert first.steps["scorer"].key != other.steps["scorer"].key
    assert str(tmp_path) not in digest(dict(first.steps["scorer"].options))
    assert str(tmp_path) not in json.dumps(dict(first.steps["scorer"].options))


def test_a_saved_plan_takes_it_along(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The path of the scorer is relative to the saved plan's file."""
    (tmp_path / "below").mkdir()
    saved = call(capsys, "plan takes.yaml --out below/p.json")
    text = (tmp_path / "below" / "p.json").read_text()
    ended = call(capsys, "run below/p.json --only scorer --json")

    assert (0, 0) == (saved.code, ended.code), ended.err
    assert '"pretrained": "../scorer"' in text
    assert str(tmp_path) not in text
    assert ["scorer"] == ended.json["made"]


def edited(**values: Any) -> Callable[[Path], None]:
    """A change of what a scorer's folder says of itself."""

    def change(folder: Path) -> None:
        def kept(about: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in (about | values).items() if value is not None}

        edit(folder / "scorer.json", kept)

    return change


def a_file(folder: Path) -> None:
    """A file in the place of the folder."""
    shutil.rmtree(folder)
    folder.write_text("")


FEATURES = {"magnitude": 1, "gradient": 1, "sensitivity": 1, "channels": 1, "layer": 1}


@pytest.mark.parametrize(
    ("change", "text", "hint"),
    [
        pytest.param(shutil.rmtree, "there is no folder {folder}", "a finished run leaves one", id="absent"),
        pytest.param(a_file, "{folder} is not a folder", "a finished", id="file"),
        pytest.param(lambda f: (f / "scorer.json").unlink(), "{folder} has no scorer.json", "a finished", id="no json"),
        pytest.param(
            lambda f: (f / "state.safetensors").unlink(), "has no state.safetensors: it is not a", "", id="no state"
        ),
        pytest.param(
            lambda f: (f / "state.safetensors").write_bytes(b"x"),
            "{folder} is damaged: state.safetensors is not what scorer.json describes",
            "copy it again from the run that left it",
            id="another state",
        ),
        pytest.param(
            lambda f: (f / "scorer.json").write_text('{"name": "ml'), "is damaged: scorer.json: ", "copy", id="cut off"
        ),
        pytest.param(
            lambda f: (f / "scorer.json").write_text("[]"), "has no `content_sha256`", "not an artifact", id="a list"
        ),
        pytest.param(edited(features=None), "it has no valid `features`", "copy it again", id="no features"),
        pytest.param(edited(sha256=7), "it has no valid `sha256`", "copy it again", id="no digest"),
        pytest.param(
            edited(name="mpl"), "holds a scorer `mpl`, which this autosparse does not have", "`mlp`?", id="class"
        ),
        pytest.param(
            edited(version=2), "version 2 of scorer `mlp`, this autosparse has version 1", "train", id="version"
        ),
        pytest.param(
            edited(features={**FEATURES, "channels": 2}),
            "was made for version 2 of feature group `channels`, this autosparse has version 1",
            "train it again",
            id="features",
        ),
        pytest.param(
            edited(features={**FEATURES, "depth": 1}),
            "was made for version 1 of feature group `depth`, this autosparse has none",
            "train it again",
            id="a feature that is not there",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], Any], text: str, hint: str
) -> None:
    """A plan exits with code 2 and names position, problem and remedy; nothing runs."""
    change(folder)
    ended = call(capsys, "plan takes.yaml")

    assert 2 == ended.code
    assert "error: takes.yaml:8:22: " in ended.err
    assert text.format(folder=folder) in ended.err
    assert "\nhint: " in ended.err
    assert hint in ended.err


def test_the_folder_of_a_run_is_nearly_right(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error says that the path names the run in place of its scorer."""
    ended = call(capsys, f"plan takes.yaml --set scorer.pretrained={folder.parent}")

    assert 2 == ended.code
    assert f"hint: did you mean `{folder}`?" in ended.err


def test_a_scorer_is_not_judged_on_what_it_learned_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The network of a seed that IRP trained cannot be pruned by the scorer that came of it; others can."""
    same = call(capsys, "plan takes.yaml --set seeds=[100]")

    assert 2 == same.code
    assert "takes.yaml:8:22: scorer " in same.err
    assert "learned from the network to prune at seed 100" in same.err
    assert 0 == call(capsys, "plan takes.yaml --set seeds=[100] --set model.width=8").code


def test_a_scorer_that_changes_after_it_was_planned_is_not_used(folder: Path, tmp_path: Path) -> None:
    """The step compares the folder with what the plan saw."""
    compiled, store = plan(tmp_path / "takes.yaml"), Store.default()
    edited(options={"width": 1})(folder)
    with pytest.raises(StepError) as caught:
        Execution(compiled, store, Everyone(), placement=backends.Placement("cpu", 1)).run()

    assert "has changed since it was planned" in caught.value.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"no tensors", "is damaged: state.safetensors: "),
        (dump_tensors({"0.bias": torch.tensor([float("nan")])}), "has values that are not finite, in 0.bias"),
    ],
)
def test_tensors_that_no_scorer_has_fail_the_step(
    folder: Path, capsys: pytest.CaptureFixture[str], data: bytes, text: str
) -> None:
    """Errors that only reading the tensors shows fail the run with exit code 1."""
    (folder / "state.safetensors").write_bytes(data)
    edited(sha256=file_digest(folder / "state.safetensors"))(folder)
    ended = call(capsys, "run takes.yaml --only scorer")

    assert 1 == ended.code
    assert f"step `scorer` failed: scorer {folder} {text}" in ended.err


@pytest.mark.parametrize(
    ("scorer", "text"),
    [
        ("{pretrained: scorer, steps: 5}", "8:30: unknown key `steps` in `scorer`"),
        ("{name: mlp, pretrained: scorer}", "8:10: unknown key `name` in `scorer`"),
        ("{pretrained: 3}", "`scorer.pretrained` must be a text but is 3"),
        ('{pretrained: ""}', "`scorer.pretrained` must not be empty"),
    ],
)
def test_options_beside_it_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], scorer: str, text: str
) -> None:
    """A scorer that was trained keeps its options; the JSON Schema says the same."""
    (folder.parent / "bad.yaml").write_text(f"{TAKES}scorer: {scorer}\n")
    ended = call(capsys, "validate bad.yaml")

    assert 2 == ended.code
    assert text in ended.err
    value = {"model": "resnet8", "dataset": "digits", "scorer": load_yaml(scorer)}
    assert not Validator(spec_schema()).is_valid(value)
    assert Validator(spec_schema()).is_valid({**value, "scorer": {"pretrained": "scorer"}})


def load_yaml(text: str) -> Any:
    """Plain data of YAML."""
    return importlib.import_module("yaml").safe_load(text)


def test_it_replaces_a_scorer_with_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line and over a base, whatever the scorer's options were; unused options are reported."""
    (folder.parent / "over.yaml").write_text("extends: small.yaml\nscorer: {pretrained: scorer}\n")
    over = call(capsys, "plan over.yaml --json")
    given = call(capsys, "plan small.yaml --set scorer.pretrained=scorer --json")
    other_spec = call(capsys, "plan takes.yaml --json")

    assert other_spec.json["steps"] == over.json["steps"] == given.json["steps"]
    note = "note: `irp` and `tuning` of the spec are not used: its scorer is pretrained"
    assert [False, True, True] == [note in ended.err for ended in (other_spec, over, given)]


def test_a_resolved_spec_keeps_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output of `render` is a valid spec of the same plan, with the position of the path."""
    rendered = call(capsys, "render takes.yaml --json").json
    (folder.parent / "again.yaml").write_text(json.dumps(rendered["resolved"]))

    assert "takes.yaml:8:22" == rendered["provenance"]["scorer.pretrained"]
    assert call(capsys, "plan again.yaml --json").json["steps"] == call(capsys, "plan takes.yaml --json").json["steps"]
    assert "{pretrained: FOLDER}" in call(capsys, "list scorers").out


@pytest.mark.slow
def test_the_study_of_a_run_is_exported(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """Every trial, under the run's name; of a run without trials there is no study."""
    import optuna

    workspace, ended = finished
    file = tmp_path / "study.db"

    exported = workspace.run("export", ended.json["run"], "--study", str(file))

    scorer = ended.json["scorer"]
    study = optuna.load_study(study_name=Path(ended.json["run"]).name, storage=f"sqlite:///{file}")
    assert f"{len(scorer['trials'])} trials in {file}" in exported.err
    document = workspace.run("export", ended.json["run"], "--study", f"{file}2", "--json").json
    assert (len(scorer["trials"]), f"{file}2") == (document["trials"], document["study"])
    assert scorer["trials"] == [trial.value for trial in study.trials]
    assert scorer["settings"] == [trial.params for trial in study.trials]


def network() -> torch.nn.Module:
    """A network that no scorer saw."""
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 10)
    )


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random images and labels."""
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(16, 1, 8, 8, generator=random), torch.randint(0, 10, (16,), generator=random)) for _ in range(4)
    ]


def test_prune_takes_a_scorer(folder: Path) -> None:
    """In one's own loop the folder of a run prunes a network it never saw, at once or with steps to spend."""
    model, data = network(), batches()
    masks = autosparse.prune(model, data, sparsity=0.9, method="learned", scorer=folder)
    scores = autosparse.score(model, data, criterion="learned", scorer=str(folder))
    searched = autosparse.prune(model, data, sparsity=0.9, method={"preset": "learned", "horizon": 3}, scorer=folder)

    assert round(0.1 * masks.total) == masks.kept == searched.kept
    kept = torch.cat([scores[name][mask] for name, mask in masks.items()])
    assert kept.min() >= torch.cat([scores[name][~mask] for name, mask in masks.items()]).max()
    assert masks == autosparse.prune(model, data, sparsity=0.9, method="learned", scorer=folder)
    assert masks != searched


def test_prune_refuses_what_is_no_scorer(folder: Path) -> None:
    """The same sentences as of a spec: no folder, a damaged one."""
    with pytest.raises(UsageError, match="there is no folder"):
        autosparse.prune(network(), batches(), sparsity=0.9, method="learned", scorer=folder / "elsewhere")
    (folder / "state.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="is damaged"):
        autosparse.prune(network(), batches(), sparsity=0.9, method="learned", scorer=folder)


def test_one_that_ships_is_known_by_name(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """From any folder, in a spec, a saved plan and a list; a folder of the same name is reached as ./NAME."""
    (here.folder / "takes.yaml").write_text(f"{TAKES}scorer: {{pretrained: {DEFAULT}}}\n")
    saved = call(capsys, "plan takes.yaml --out p.json")
    beside = call(capsys, f"plan takes.yaml --set scorer.pretrained=./{DEFAULT}")
    absent = call(capsys, "plan takes.yaml --set scorer.pretrained=cifar")
    listed = {item["name"] for item in call(capsys, "list scorers --json").json["items"]}

    assert 0 == saved.code, saved.err
    assert f'"pretrained": "{DEFAULT}"' in (here.folder / "p.json").read_text()
    assert 0 == call(capsys, "plan p.json").code
    assert (2, 2) == (beside.code, absent.code)
    assert f"there is no folder {here.folder / DEFAULT}" in beside.err
    assert DEFAULT in absent.err
    assert {"quota", f"{{pretrained: {DEFAULT}}}", "{pretrained: FOLDER}"} <= listed


@pytest.mark.parametrize("name", pretrained_scorers())
def test_what_ships_is_small_and_says_what_it_is(name: str) -> None:
    """A bundled scorer is readable, has less than a megabyte, and its card names its sources and its making."""
    folder = pretrained_scorers()[name]
    card = json.loads((folder / "card.json").read_text())

    assert read_scorer(name) == read_scorer(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    networks = {source["network"]["name"] for source in card["sources"]}
    assert 2 <= len(networks)
    for name in networks:
        assert 2 <= len({source["seed"] for source in card["sources"] if source["network"]["name"] == name})
    assert card["held_out"]["quotas"] > 0


def test_prune_takes_the_one_that_ships() -> None:
    """Without a method or scorer `prune` asks it: the same masks as by its name."""
    model, data = network(), batches()
    masks = autosparse.prune(model, data, 0.9)

    assert round(0.1 * masks.total) == masks.kept
    assert masks == autosparse.prune(model, data, sparsity=0.9, method="learned", scorer=DEFAULT)
    assert masks != autosparse.prune(model, data, 0.9, seed=1)
