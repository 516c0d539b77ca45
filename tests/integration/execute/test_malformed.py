"""Artifacts with the right digests of malformed content: rebuilt once, or an error with exit code 4, never a loop."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import DamagedArtifact, MissingRequirement
from autosparse.planning.model import Plan
from autosparse.report.finished import Finished
from autosparse.steps import Context, check, operations
from autosparse.store import Remote, Store
from autosparse.store.sealed import seal, unseal
from tests.conftest import SMALL, Ended, Workspace
from tests.integration.execute.test_failures import Toy, broken, run, toys

__all__ = ["broken"]

CONTENTS = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "no JSON": b"{",
    "no text": b"\xff",
    "too deep": b"[" * 100_000,
    "another field": b'{"name": "a", "odd": 1}',
    "a number for a text": b'{"name": 5}',
    "no file": None,
}


def malform(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Give an artifact other files under right digests; None leaves one out."""
    path = folder / "artifact.json"
    descriptor = unseal(path.read_bytes())
    for name, content in files.items():
        if content is None:
            del descriptor["files"][name]
        else:
            about = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            descriptor["files"][name] = about
            (folder / name).write_bytes(content)
    path.write_bytes(seal(descriptor))


def folder_of(plan: Plan, store: Store, name: str) -> Path:
    """The folder of a toy step's artifact."""
    return store.root / "artifacts" / "toy" / plan.steps[name].key


def read_inputs(context: Context, name: str) -> None:
    """A toy step that reads its inputs whole."""
    for artifact in context.inputs.values():
        Toy.read(artifact)
    context.output.write_json("result", {"name": name})


@pytest.fixture
def reading(broken: dict[str, BaseException]) -> None:
    """Toy steps that read their inputs."""
    operations._entries["toy"] = replace(operations["toy"], function=read_inputs)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("what", CONTENTS)
def test_a_malformed_input_is_rebuilt_once(what: str, tmp_path: Path) -> None:
    """`verify` finds it; the next run makes it again, with the bytes of the first run."""
    plan, store = toys(a="", b="a"), Store(tmp_path)
    run(plan, store)
    before = (folder_of(plan, store, "a") / "result.json").read_bytes()
    malform(folder_of(plan, store, "a"), {"result.json": CONTENTS[what]})
    store.remove("toy", plan.steps["b"].key)
    problems = [problem for _, problem in store.verify(check) if problem]
    recording, execution = run(plan, store)

    assert 1 == len(problems), problems
    assert ["a", "b"] == recording.ran
    assert {} == execution.outcome.failed
    assert before == (folder_of(plan, store, "a") / "result.json").read_bytes()
    assert [] == [problem for _, problem in store.verify(check) if problem]


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("what", CONTENTS)
@pytest.mark.parametrize("is_writable", [True, False])
def test_a_malformed_copy_of_a_shared_store_is_replaced(
    what: str, is_writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or ignored where the store cannot be written: the run ends with the right results, as does its report."""
    plan, shared = toys(a="", b="a"), tmp_path / "shared"
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second", str(shared))
    run(plan, first)
    malform(folder_of(plan, first, "a"), {"result.json": CONTENTS[what]})
    Remote(str(shared)).push(first.open("toy", plan.steps["a"].key))
    if not is_writable:

        def refuse(*_: object, **__: object) -> bool:
            raise MissingRequirement("it is read-only", "")

        monkeypatch.setattr(Remote, "push", refuse)
    recording, execution = run(plan, second)

    def names() -> list[str]:
        finished = Finished.of(plan, second, execution.outcome.unmade)
        return [Toy.read(finished.open(step.name)).name for step in finished.steps()]

    assert ["a", "b"] == execution.read(names)
    assert {"a", "b"} == {*recording.ran}
    assert {} == execution.outcome.failed
    if is_writable:
        check(Store(tmp_path / "third", str(shared)).bring("toy", plan.steps["a"].key))


@pytest.mark.parametrize("url", [None, "shared"])
def test_a_step_that_writes_malformed_content_ends_with_4(
    url: str | None, tmp_path: Path, broken: dict[str, BaseException]
) -> None:
    """Its step fails, the report leaves it out, and it is published nowhere."""
    plan, store = toys(a="", b=""), Store(tmp_path / "cache", url and str(tmp_path / url))

    def write(context: Context, name: str) -> None:
        context.output.write_json("result", [name] if name == "a" else {"name": name})

    operations._entries["toy"] = replace(operations["toy"], function=write)
    recording, execution = run(plan, store)

    def names() -> list[str]:
        finished = Finished.of(plan, store, execution.outcome.unmade)
        return [Toy.read(finished.open(step.name)).name for step in finished.steps()]

    assert ["b"] == execution.read(names)
    assert ["b"] == recording.ran
    assert not store.has("toy", plan.steps["a"].key)
    with pytest.raises(DamagedArtifact, match="step `a` failed: its new artifact is damaged") as caught:
        execution.outcome.check(reported=True)
    assert (4, True) == (caught.value.exit_code, bool(caught.value.hint))


def test_a_consumer_that_refuses_every_copy_ends(tmp_path: Path, broken: dict[str, BaseException]) -> None:
    """Also where the file that it misses is in no descriptor, whose digests are all right."""
    plan, store = toys(a="", b="a"), Store(tmp_path)

    def miss(context: Context, name: str) -> None:
        for artifact in context.inputs.values():
            artifact.read("absent.json")
        context.output.write_json("result", {"name": name})

    operations._entries["toy"] = replace(operations["toy"], function=miss)
    recording, execution = run(plan, store)

    assert (["a", "a"], {"a": ["b"]}) == (recording.ran, recording.lost)
    assert isinstance(execution.outcome.failed["a"], DamagedArtifact)


def malform_all(cache: Path, choose: Callable[[str], bytes]) -> dict[str, str]:
    """Malform a file of every artifact in a cache; return the digests of all files."""
    before: dict[str, str] = {}
    for path in sorted((cache / "artifacts").glob("*/*/artifact.json")):
        files: dict[str, Any] = json.loads(path.read_text())["files"]
        before |= {f"{path.parent.name}/{name}": about["sha256"] for name, about in files.items()}
        first = next((name for name in sorted(files) if name.endswith((".safetensors", ".json"))), next(iter(files)))
        malform(path.parent, {first: choose(first)})
    return before


TIMED = ("measured.json", "card.json")  # files with times of measurements


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "shared"])
def test_malformed_artifacts_of_every_kind_are_rebuilt(
    where: str, workspace: Workspace, finished: tuple[Workspace, Ended]
) -> None:
    """`verify` names each; one run rebuilds what it reads, down to the data, with the same bytes and results."""
    one, ended = finished
    source = workspace.folder / "source"
    shutil.copytree(one.cache / "artifacts", source / "artifacts")
    before = malform_all(source, lambda name: b"" if name.endswith("safetensors") else b"[]")
    spec = SMALL
    if where == "local":
        shutil.copytree(source / "artifacts", workspace.cache / "artifacts")
    else:
        spec += f"store: {workspace.folder / 'shared'}\n"
        remote = Remote(str(workspace.folder / "shared"))
        for path in (source / "artifacts").glob("*/*"):
            remote.push(Store(source).open(path.parent.name, path.name))
    (workspace.folder / "small.yaml").write_text(spec)
    verified = workspace.run("cache", "verify", "--json")
    again = workspace.run("run", "small.yaml", "--json")
    after = {
        f"{path.parent.name}/{name}": about["sha256"]
        for path in (workspace.cache / "artifacts").glob("*/*/artifact.json")
        for name, about in json.loads(path.read_text())["files"].items()
    }
    same = {name: digest for name, digest in after.items() if not name.endswith(TIMED)}

    assert 0 == again.code, again.err
    assert ended.json["results"] == again.json["results"]
    assert same.items() <= before.items()
    if where == "local":
        assert 4 == verified.code
        assert verified.json["checked"] == len(verified.json["damaged"])
        moved = {path.name.partition("-")[0] for path in (workspace.cache / "damaged").glob("*")}
        assert {"data", "init", "irp", "label", "mask", "train", "evaluate", "trial", "scorer", "emit"} <= moved
