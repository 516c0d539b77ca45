"""Two machines with one shared store: what one has made the other reuses, and nothing depends on its being there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autosparse.store import Remote, Store
from tests.conftest import SMALL, Ended, Workspace

pytestmark = pytest.mark.slow
IRP = ("run", "small.yaml", "--only", "irp/*", "--json")


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Workspace, Workspace, Path]:
    """Two folders with caches of their own and the same spec, and the place that they share."""
    shared = tmp_path / "shared"
    places = []
    for name in "ab":
        workspace = Workspace(tmp_path / name)
        workspace.folder.mkdir()
        (workspace.folder / "small.yaml").write_text(SMALL + f"store: {shared}\n")
        places.append(workspace)
    return places[0], places[1], shared


def printed(ended: Ended) -> dict[str, int]:
    """Return the numbers of steps that a call ran and reused."""
    assert 0 == ended.code, ended.err
    steps: dict[str, int] = ended.json["steps"]
    return steps


def test_a_run_elsewhere_reuses_all(machines: tuple[Workspace, Workspace, Path]) -> None:
    """The plan says where it is, nothing is made, the report is the same, and of weights nothing was fetched."""
    one, two, _ = machines
    made = one.run("run", "small.yaml", "--json")
    planned = two.run("plan", "small.yaml", "--json")
    reused = two.run("run", "small.yaml", "--json")

    assert 0 == made.code == reused.code, made.err + reused.err
    assert {"in the shared store"} == {step["reason"] for step in planned.json["steps"]}
    assert (0, 0) == (reused.json["steps"]["run"], planned.json["summary"]["run"])
    assert made.json["results"] == reused.json["results"]
    assert made.json["timeline"] == reused.json["timeline"]
    assert not list(two.cache.glob("artifacts/*/*"))
    assert {"model.safetensors", "weights.safetensors"} & {path.name for path in (two.cache / "fetched").rglob("*")}


def test_what_goes_on_from_it_takes_it_whole(
    machines: tuple[Workspace, Workspace, Path], finished: tuple[Workspace, Ended]
) -> None:
    """Another round of an IRP that another machine began, with the bytes that one machine alone makes."""
    one, two, _ = machines
    begun = printed(one.run(*IRP, "--set", "irp.rounds=2"))
    went_on = printed(two.run(*IRP))

    assert begun["run"] >= 2
    assert {"run": 0, "reuse": 4, "resume": 1} == went_on
    assert 0 < len(mine := two.digests(("irp",)))
    assert mine.items() <= finished[0].digests(("irp",)).items()


def test_damage_and_absence_are_mended(machines: tuple[Workspace, Workspace, Path]) -> None:
    """Files that were changed there are made again and replaced; a place that cannot be reached is done without."""
    one, two, shared = machines
    printed(one.run(*IRP))
    for path in (shared / "files").glob("*/*"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    mended = two.run(*IRP, "--set", "irp.rounds=4")
    reader = Store(two.folder / "reader", str(shared))
    named = [named for named, _ in Remote(str(shared)).artifacts()]

    assert 4 <= printed(mended)["run"] + printed(mended)["resume"]
    assert {"irp", "init"} <= {operation for operation, _ in named}
    for operation, key in named:
        reader.bring(operation, key).verify()


def test_a_place_that_cannot_be_reached_is_done_without(workspace: Workspace) -> None:
    """A run goes on and says so, once; and nothing is shared with a file in the way of its folder."""
    (workspace.folder / "blocked").write_text("")
    ended = workspace.run(*IRP, "--set", f"store={workspace.folder / 'blocked' / 'shared'}")

    assert 0 == ended.code, ended.err
    assert 3 <= printed(ended)["run"]
    assert 0 < ended.err.count("cannot be") <= 3
    assert json.loads(ended.out)["missing"]
