"""A flipped bit in a file that autosparse wrote moves no result: it is noticed, and the file is made again."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from autosparse.errors import UsageError
from autosparse.planning.saved import read_plan
from autosparse.steps.scorer import read_scorer
from autosparse.store import Store, open_index
from tests.conftest import Ended, Workspace, call
from tests.sealing import flips


@pytest.mark.parametrize("damaged", ["1010", '"x"'])
def test_a_damaged_network_moves_no_budget(here: Workspace, capsys: pytest.CaptureFixture[str], damaged: str) -> None:
    """With another number of parameters than the network has, the same budget keeps the same weights."""
    line = "plan small.yaml --budget parameters=2k --json"
    before = call(capsys, line)
    whole = {path: path.read_bytes() for path in (here.cache / "memory").glob("network-*.json")}
    for path, content in whole.items():
        number = Store(here.cache).recall(path.stem)["parameters"]
        path.write_bytes(content.replace(f'"parameters":{number}'.encode(), f'"parameters":{damaged}'.encode()))
    verified = call(capsys, "cache verify")
    after = call(capsys, line)

    assert (4, 0, 0) == (verified.code, before.code, after.code)
    for path in whole:
        assert f"{path} is damaged: its content differs from its `content_sha256`" in verified.out
    assert "are ignored and computed again" in verified.err
    (used,) = (path for path in whole if f"warning: {path} is damaged: " in after.err)
    assert [step["key"] for step in before.json["steps"]] == [step["key"] for step in after.json["steps"]]
    assert whole[used] == used.read_bytes()


def test_a_damaged_descriptor_is_left_out_and_rebuilt(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cache ls`, `cache export` and `cache verify` name or skip it; the next run makes the same bytes."""
    shutil.copytree(finished[0].cache, here.cache)
    (path,) = here.cache.glob("artifacts/scorer/*/artifact.json")
    path.write_bytes(path.read_bytes().replace(b'"operation"', b'"operatiol"'))
    listed, verified = call(capsys, "cache ls --json"), call(capsys, "cache verify")
    exported = call(capsys, "cache export small.yaml group.zip")
    run = call(capsys, "run small.yaml --json")

    assert (0, 4, 4, 0) == (listed.code, verified.code, exported.code, run.code), run.err
    assert path.parent.name not in {row["key"] for row in listed.json["artifacts"]}
    assert f"artifact {path.parent} is damaged: artifact.json: " in verified.out
    assert "is damaged: artifact.json: " in exported.err
    assert "`scorer` is run again" in run.err
    assert finished[0].digests() == here.digests()
    assert finished[1].json["results"] == run.json["results"]
    assert 0 == call(capsys, "cache verify").code


def test_a_damaged_index_is_made_again(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """Whatever is flipped, a plan sees the same artifacts."""
    for part in ("artifacts", "memory"):
        shutil.copytree(finished[0].cache / part, tmp_path / part)
    store = Store(tmp_path)
    known = [*open_index(store)]
    path = tmp_path / "memory" / "index-1.json"
    whole = path.read_bytes()
    for flipped in flips(whole, len(whole) // 12):
        path.write_bytes(flipped)

        assert known == [*open_index(store)]


def test_a_damaged_saved_plan_is_refused(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped bit in any part makes another plan of no file: it is an error, no plan, or the same plan."""
    assert 0 == call(capsys, "plan small.yaml --out p.json").code
    path = here.folder / "p.json"
    whole, saved = path.read_bytes(), read_plan(path)
    for flipped in flips(whole, 997):
        path.write_bytes(flipped)
        with suppress(UsageError):
            assert read_plan(path) in (None, saved)


def test_a_damaged_scorer_is_refused(finished: tuple[Workspace, Ended], tmp_path: Path) -> None:
    """A flipped bit in its description or its tensors never passes for another scorer."""
    shutil.copytree(finished[0].folder / finished[1].json["run"] / "scorer", tmp_path / "scorer")
    known = read_scorer(tmp_path / "scorer")
    for name, step in (("scorer.json", 5), ("state.safetensors", 97)):
        path = tmp_path / "scorer" / name
        whole = path.read_bytes()
        for flipped in flips(whole, step):
            path.write_bytes(flipped)
            with suppress(UsageError):
                assert known == read_scorer(tmp_path / "scorer")
        path.write_bytes(whole)


def test_a_damaged_file_of_a_run_changes_no_run(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report with another accuracy is not shown; a run with another plan is not continued; others are listed."""
    for number in (1, 2):
        shutil.copytree(finished[0].folder / finished[1].json["run"], here.folder / "runs" / f"small-{number}")
    report = here.folder / "runs" / "small-1" / "report.json"
    report.write_text(report.read_text().replace('"test_accuracy": ', '"test_accuracy": 1', 1))
    shown, listed = call(capsys, "report small-1"), call(capsys, "runs --json")

    assert (2, 0) == (shown.code, listed.code)
    assert "its report.json is damaged" in shown.err
    assert 2 == len(listed.json["runs"])
    assert 0 == call(capsys, "plan runs/small-2/resolved.json").code
