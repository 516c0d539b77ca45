"""`autosparse.plan` and `autosparse.run`: the command line's plans, keys, folders and errors, in Python."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import autosparse
from autosparse.api.runs.prepare import SpecSource
from autosparse.backends import Event, Finished
from autosparse.spec import load_spec
from tests.conftest import SMALL, Ended, Workspace

TINY = {
    "model": {"name": "resnet8", "width": 4},
    "dataset": "digits",
    "budget": [0.9],
    "method": "magnitude",
    "controls": [],
    "emit": [],
    "compare": [],
    "target": {"device": "cpu", "threads": 1},
    "training": {"epochs": 1, "batch": 128, "precision": "float32"},
}


@pytest.fixture
def inside(finished: tuple[Workspace, Ended], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The directory and the cache of a run by the command line."""
    workspace, ended = finished
    assert ended.code == 0
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(workspace.cache))
    return workspace


SOURCES: dict[str, Callable[[], SpecSource]] = {
    "path": lambda: Path("small.yaml"),
    "text of a path": lambda: "small.yaml",
    "text": lambda: SMALL,
    "data": lambda: yaml.safe_load(SMALL),
    "spec": lambda: load_spec(Path("small.yaml")).spec,
    "loaded spec": lambda: autosparse.load_spec("small.yaml"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_has_the_keys_of_the_command_line(inside: Workspace, kind: str) -> None:
    """A path, YAML text, plain data and a Spec reuse all that the command line has computed."""
    planned = autosparse.plan(SOURCES[kind]())

    assert [] == planned.to_run
    assert planned.fits
    assert {"reuse"} == {step["status"] for step in planned.steps}


def test_a_run_reuses_the_command_line(inside: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The same run folder and results; nothing runs, and nothing is printed where no one watches."""
    events: list[Event] = []
    report = autosparse.run("small.yaml", progress=events.append)
    again = autosparse.run(autosparse.plan("small.yaml"))
    before = json.loads((report.folder / "report.json").read_text())

    assert {"reuse"} == {event.status for event in events if isinstance(event, Finished)}
    assert json.loads(json.dumps([*report.results])) == before["results"]
    assert report.json()["verdicts"] == again.json()["verdicts"]
    assert capsys.readouterr() == ("", "")


def test_masks_and_models_are_those_of_the_exported_folder(inside: Workspace) -> None:
    """`masks` and `model` give the bytes that the run exported."""
    report = autosparse.run("small.yaml")
    (emitted,) = (model for model in report.emitted if model["sparsity"] == 0.9 and model["format"] == "safetensors")
    loaded = autosparse.load(emitted["path"])
    model = report.model(budget="90%")
    images = torch.randn(3, 1, 8, 8)

    assert report.masks(budget=0.9) == autosparse.Masks.load(Path(emitted["path"]) / "masks.safetensors")
    assert torch.equal(loaded(images), model(images))
    assert not model.training


def test_other_networks_of_a_run(inside: Workspace) -> None:
    """Baselines and controls have masks, the dense network has a model alone."""
    report = autosparse.run("small.yaml")
    dense = report.model("dense")

    assert report.masks("snip", 0.8).sparsity == pytest.approx(0.8, abs=1e-3)
    assert report.masks("learned.shuffle", 0.9).kept == report.masks("learned", 0.9).kept
    assert all(bool(tensor.any()) for name, tensor in dense.state_dict().items() if name.endswith("conv1.weight"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "several budgets"),
        ({"method": "snop", "budget": 0.9}, "method `snop`"),
        ({"budget": 0.5}, "budget `0.5`"),
        ({"budget": 0.9, "seed": 4}, "seed `4`"),
        ({"method": "dense"}, "no masks"),
        ({"budget": "much"}, "must be a number"),
    ],
)
def test_a_network_that_the_run_lacks(inside: Workspace, asked: dict[str, Any], message: str) -> None:
    """One sentence with a hint that names the choices."""
    report = autosparse.run("small.yaml")

    with pytest.raises(autosparse.AutosparseError, match=message) as caught:
        report.masks(**asked)
    assert caught.value.hint


def test_html_and_text_in_a_notebook(inside: Workspace) -> None:
    """Plans and reports show tables; every text is escaped."""
    planned, report = autosparse.plan("small.yaml"), autosparse.run("small.yaml")
    page = report._repr_html_()
    one = replace(report.data, results=report.data.results[:1])
    hostile = autosparse.Report(report.data.of({**report.json(), "spec": "<script>alert(1)</script>"}), report.finished)

    assert "nothing to run" in planned._repr_html_()
    assert "<svg" in page
    assert "sparsity 0.9" in page
    assert "<script" not in page
    assert "<script" not in hostile._repr_html_()
    assert "nothing to run" in str(planned)
    assert "test accuracy in %" in str(report)
    assert repr(planned).startswith("Plan(small: 0 steps to run, ")
    assert " networks, method learned)" in repr(report)
    assert ": 1 network, " in repr(autosparse.Report(one, report.finished))
    assert "&lt;b&gt;" in autosparse.api.Records([{"name": "<b>"}])._repr_html_()


def test_results_become_a_table_of_pandas(inside: Workspace) -> None:
    """A row a network, a column a field."""
    pytest.importorskip("pandas")
    report = autosparse.run("small.yaml")
    table = report.results.to_pandas()

    assert [result["test_accuracy"] for result in report.results] == table["test_accuracy"].tolist()


def test_settings_of_torch_are_restored(here: Workspace) -> None:
    """A run leaves the caller's threads and random state as they are."""
    here.lend_rates()
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        autosparse.run(TINY, progress=False)

        assert torch.get_num_threads() == 2
        assert torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_num_threads(threads)


def test_a_failed_step_raises_and_keeps_the_rest(here: Workspace) -> None:
    """The others finish and are in the folder's report."""
    here.lend_rates()
    spec = {**TINY, "training": {"epochs": 1, "batch": 128, "precision": "float32", "lr": 1e30}}

    with pytest.raises(autosparse.AutosparseError, match="diverged"):
        autosparse.run(spec, progress=False)
    assert json.loads(Path("runs/spec-1/report.json").read_text())["failures"]


@contextlib.contextmanager
def _changed(read: Callable[[], Any], write: Callable[[Any], None], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
        assert value == read()
    finally:
        write(before)


SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
    "another type": lambda: _changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "low precision": lambda: _changed(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
}


@pytest.mark.slow
def test_a_run_has_the_bytes_of_the_command_line(here: Workspace, tmp_path: Path, monkeypatch: Any) -> None:
    """In bfloat16, whose casts of weights torch would keep from step to step inside an outer autocast."""
    here.lend_rates()
    spec = {**TINY, "training": {"epochs": 2, "batch": 128, "precision": "bfloat16"}, "emit": ["safetensors"]}
    Path("half.yaml").write_text(yaml.safe_dump(spec))
    (emitted,) = here.run("run", "half.yaml", "--json").json["emitted"]
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "other"))
    with torch.autocast("cpu", enabled=False):
        state = autosparse.run("half.yaml", progress=False, out=tmp_path / "run").model().state_dict()
    expected = autosparse.load(emitted["path"]).state_dict()

    assert all(torch.equal(tensor, state[name]) for name, tensor in expected.items())


@pytest.mark.slow
def test_settings_of_the_caller_do_not_reach_steps(here: Workspace, tmp_path: Path, monkeypatch: Any) -> None:
    """A run under any setting of torch has the bytes of a plain run, and leaves the setting in force."""
    here.lend_rates()
    half = {**TINY, "training": {"epochs": 2, "batch": 128, "precision": "bfloat16"}}
    plain = autosparse.run(half, progress=False).model().state_dict()
    for number, (name, setting) in enumerate(SETTINGS.items()):
        monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / f"cache{number}"))
        with setting():
            report = autosparse.run(half, progress=False, out=tmp_path / f"run{number}")
        state = report.model().state_dict()

        assert all(torch.equal(tensor, state[key]) for key, tensor in plain.items()), name


def test_newer_settings_of_precision_are_kept(inside: Workspace) -> None:
    """torch refuses to read its older settings next to these."""
    convolutions: Any = getattr(torch.backends.cudnn, "conv")  # noqa: B009
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        autosparse.plan("small.yaml")

        assert "ieee" == convolutions.fp32_precision
    finally:
        convolutions.fp32_precision = before


@pytest.mark.slow
def test_a_plan_leaves_a_fresh_process_its_threads(here: Workspace) -> None:
    """Torch, imported to measure, has its default number of threads afterwards, and no new variable stays."""
    Path("script.py").write_text(
        f"import os, autosparse\nbefore = dict(os.environ)\nautosparse.plan({TINY!r})\nimport torch\n"
        "print(torch.get_num_threads(), {**os.environ} == before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    default = "import torch; print(torch.get_num_threads(), True)"
    commands = [["script.py"], ["-c", default]]
    printed = [
        subprocess.run([sys.executable, *one], capture_output=True, text=True, env=environment, check=True).stdout
        for one in commands
    ]

    assert printed[0] == printed[1]


def test_a_script_with_its_factory_needs_a_guard(here: Workspace) -> None:
    """The file is imported for the factory: a call at its top would start the run again."""
    Path("script.py").write_text(
        "import autosparse\n\ndef net(shape, classes):\n    return None\n\n"
        f"autosparse.run({{**{TINY!r}, 'model': 'script.py:net'}}, progress=False)\n"
    )

    with pytest.raises(autosparse.AutosparseError, match=r"`script\.py` calls `autosparse\.run` while") as caught:
        autosparse.plan({**TINY, "model": "script.py:net"})
    assert "__main__" in str(caught.value.hint)


def test_a_bundled_spec_in_place_of_a_missing_file_is_a_warning(here: Workspace) -> None:
    """A name alone, such as `digits`, means the bundled one; a file name does not."""
    with pytest.warns(autosparse.AutosparseWarning, match="is not here; using the bundled spec"):
        autosparse.run("specs/digits.yaml", overrides=TINY | {"compare": ["dense"]}, progress=False)


def test_tuples_are_lists(here: Workspace) -> None:
    """Also where a spec reads paths and varied values."""
    with pytest.raises(autosparse.AutosparseError, match="unknown key `nonsense`"):
        load_spec({**TINY, "study": {"training.nonsense": (1, 2)}})
    with pytest.raises(autosparse.AutosparseError, match=r"compare\[1\]"):
        load_spec({**TINY, "compare": ("dense", "snop")})


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        ("nowhere.yaml", {}, "does not exist"),
        (3, {}, "must be a path"),
        (None, {}, "must be a path"),
        ({**TINY, "model": "lent"}, {}, "<spec>: `model` must be a model"),
        ("model: lenet\ndataset: digist\n", {}, "<spec>:2:10: `dataset`"),
        (TINY, {"overrides": {"training.epoch": 3}}, "unknown key `epoch`"),
        (TINY, {"overrides": ["training.epochs"]}, "path.to.key=value"),
        (TINY, {"overrides": [{"training.epochs": 3}]}, "must be a text"),
        (TINY, {"overrides": 5}, "must be a text"),
        (TINY, {"out": 3}, "`out` must be a path"),
        (TINY, {"progress": "yes"}, "`progress` must be"),
        (TINY, {"budget": 1.5}, "below 1"),
        (TINY, {"budget": {"parameters": -3}}, "above 0"),
        ({**TINY, "model": {1, 2}}, {}, "must be the name of a model"),
    ],
)
def test_mistakes_are_those_of_the_command_line(
    here: Workspace, spec: Any, changes: dict[str, Any], message: str
) -> None:
    """An exception with a message and a hint, before anything runs."""
    with pytest.raises(autosparse.AutosparseError, match=message) as caught:
        autosparse.run(spec, **{"progress": False, **changes})
    assert caught.value.hint or "must be" in caught.value.message
    assert not Path("runs").exists()


def test_data_that_holds_itself_is_refused(here: Workspace) -> None:
    """Also where it is deeper than any spec."""
    spec: dict[str, Any] = {"dataset": "digits"}
    spec["model"] = spec

    with pytest.raises(autosparse.AutosparseError, match="cannot be read"):
        autosparse.plan(spec)


def test_overrides_are_values(here: Workspace) -> None:
    """Numbers, lists, texts and paths of Python, as `--set` and `--budget` take them."""
    here.lend_rates()
    planned = autosparse.plan(
        TINY,
        budget=[0.8, "10x", {"parameters": 2000}, {"macs": "30%"}],
        overrides={"seeds": (0, 1), "training.optimizer": "adamw"},
    )

    assert (0.8, 0.9) == planned.spec.spec.budget[:2]
    assert "30% macs" == str(planned.spec.spec.budget[3])
    assert (0, 1) == planned.spec.spec.seeds
    assert "adamw" == planned.spec.spec.training.optimizer


def test_a_loaded_spec_takes_further_changes(here: Workspace) -> None:
    """The first result stays as it is."""
    first = autosparse.load_spec("small.yaml", overrides={"training.epochs": 7})
    second = autosparse.load_spec(first, overrides={"training.lr": 0.5}, budget=0.7)

    assert (7, 0.05, (0.8, 0.9)) == (first.spec.training.epochs, first.spec.training.lr, first.spec.budget)
    assert (7, 0.5, (0.7,)) == (second.spec.training.epochs, second.spec.training.lr, second.spec.budget)
    assert first.path == second.path


def test_a_spec_extends_files_relative_to_here(here: Workspace) -> None:
    """`extends` of text and of data, whose nested sections merge."""
    data: dict[str, Any] = {"extends": "small.yaml", "training": {"epochs": 7}}
    specs = [load_spec(data).spec, load_spec("extends: small.yaml\ntraining: {epochs: 7}\n").spec]

    assert [(7, 128)] * 2 == [(spec.training.epochs, spec.training.batch) for spec in specs]


def test_a_warning_points_to_the_call(here: Workspace) -> None:
    """Files that the dataset leaves out become a Python warning at the caller's line."""
    here.lend_rates()
    from PIL import Image

    for name in ("cat", "dog"):
        for number in range(12):
            path = Path("pictures", name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * number).save(path)
    Path("pictures/cat/notes.txt").write_text("not a picture")
    spec = {**TINY, "dataset": {"name": "image_folder", "root": "pictures", "channels": 1}}

    with pytest.warns(autosparse.AutosparseWarning, match=r"\.txt") as caught:
        autosparse.run(spec, progress=False)
    assert [__file__] == [warning.filename for warning in caught]


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(here: Workspace) -> None:
    """Worker processes do not run the calling script again."""
    spec = {**TINY, "seeds": [0, 1], "target": {"device": "cpu", "threads": 1, "workers": 2}}
    Path("script.py").write_text(
        f"import autosparse\nprint('begin')\nreport = autosparse.run({spec!r})\nprint(len(report.results))\n"
    )
    ended = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)

    assert (0, "begin\n2\n") == (ended.returncode, ended.stdout)
