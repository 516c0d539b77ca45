"""Hostile content with right digests: artifacts, descriptors, cards of models and files of a run."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from autosparse.errors import DamagedArtifact
from autosparse.store import Remote, Store
from tests.faults.commands import LOAD, READERS, WRITERS, Command, References
from tests.faults.judge import Verdict, problem_of
from tests.faults.kinds import Trial

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 5, 1.5, 10**30, 10**400, float("nan"), float("inf"), -1e308, "", "x", "\x1b[31mred", "\ud800",
    "../../x", "9" * 5000, "long " * 10**5, [], [[]], [None], {}, {"x": 1}, {"": None}, [0] * 10**5,
)  # fmt: skip
"""Values of a field."""
_DEEP = "[" * 10**5 + "]" * 10**5
_JSON = (
    b"", b"\xff\xfe", b"{", b"null", b"[]", b"{}", b"5", b'"x"', b"[" * 10**5, _DEEP.encode(), b'{"a": ' * 10**4,
    b"\x00" * 100, b"NaN", b"1" * 5000, b'{"a": 1, "a": 2}', b"true false",
)  # fmt: skip
"""Contents of a JSON file."""


def _tensors(header: object, body: bytes = b"\0" * 64, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def _tensor(dtype: object = "F32", shape: object = (4, 4), offsets: object = (0, 64)) -> bytes:
    return _tensors({"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})


_SAFETENSORS = (
    b"", b"\0" * 8, b"x" * 7, _tensors({}), _tensors([]), _tensors(b"null"), _tensors(b"[" * 10**4),
    _tensors({}, size=2**62), _tensor(), _tensor("C64"), _tensor(5), _tensor([]), _tensor(shape=(1, 10000, 10000)),
    _tensor(shape=(10**18,)), _tensor(shape=(-4, -4)), _tensor(shape="x"), _tensor(shape=None),
    _tensor(offsets=(64, 0)), _tensor(offsets=(0, 10**18)), _tensor(offsets=(-64, 0)), _tensor(offsets="ab"),
    _tensor(offsets=(0,)), _tensors({"x": None}), _tensors({"x": {}}), _tensors({"__metadata__": {"a": 5}}),
    _tensors({"": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}),
)  # fmt: skip
"""Contents of a tensor file."""
_DESCRIPTOR = (
    "created", "seconds", "idle_seconds", "work", "work.kind", "work.amount", "work.held", "options", "inputs",
    "version", "environment", "environment.threads", "consumed", "step", "spec", "peak_bytes", "bytes",
)  # fmt: skip
"""Fields of a descriptor; `bytes` are those of its files."""


def contents(known: References, random: Random) -> Iterator[Trial]:
    """Publish, push or write hostile content that every digest confirms; commands repair it or end with one line."""
    finished = known.world.base / "finished"
    artifacts = sorted((finished / "cache" / "artifacts").glob("*/*"))
    trials: list[Trial] = []
    for folder in artifacts:
        for path in sorted(path for path in folder.iterdir() if path.name != "artifact.json"):
            for content in _JSON if path.suffix == ".json" else _SAFETENSORS:
                trials.append(_of_artifact(known, folder, {path.name: content}, {}, random.choice(_FIRST)))
        for field in _DESCRIPTOR:
            value, shared = random.choice(_VALUES), random.random() < 0.4
            trials.append(_of_artifact(known, folder, {}, {field: value}, random.choice(_FIRST), shared=shared))
    for name, readers in _OF_FILES.items():
        fields = list(_fields(json.loads((finished / name).read_bytes())))
        for content in _JSON:
            trials.append(_of_file(known, name, content, random.choice(readers), ""))
        for value in _VALUES * 3:
            trials.append(_of_file(known, name, value, random.choice(readers), random.choice(fields)))
    random.shuffle(trials)
    yield from trials


_FIRST = READERS["plan"], READERS["ls"], WRITERS["gc"], WRITERS["export"], WRITERS["cache export"]
"""Commands that read descriptors, before the spec runs."""
_OF_FILES: Mapping[str, tuple[Command, ...]] = {
    "models/models/learned-0.8-seed0/safetensors/card.json": (LOAD, READERS["inspect"]),
    "runs/tiny-1/report.json": (READERS["report"], READERS["runs"], READERS["markdown"], READERS["compare"]),
    "runs/tiny-1/plan.json": (READERS["runs"], WRITERS["export"], WRITERS["rerun"]),
    "runs/tiny-1/resolved.json": (READERS["runs"], WRITERS["export"], READERS["compare"]),
    "runs/tiny-1/scorer/scorer.json": (READERS["plan with a scorer"],),
    "runs/tiny-1/scorer/card.json": (READERS["plan with a scorer"],),
    "saved.json": (READERS["saved plan"],),
}
"""File of a user -> commands that read it."""


def _fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    # Paths of all values, of lists only the first two.
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _fields(inner, (*path, key))


def _sealed(document: Any) -> bytes:
    # With a right digest of itself, in files that hold one.
    if isinstance(document, dict) and document.pop("content_sha256", None) is not None:
        with suppress(ValueError, TypeError, UnicodeError):  # a value without a digest
            sealed: bytes = import_module("autosparse.store.sealed").seal(document)
            return sealed
    return json.dumps(document).encode()


def _shown(content: Any) -> str:
    text = repr(content)
    return text if len(text) < 60 else f"{text[:40]}... ({len(text):,} characters)"


def _of_artifact(
    known: References,
    folder: Path,
    files: Mapping[str, bytes],
    fields: Mapping[str, Any],
    first: Command,
    *,
    shared: bool = False,
) -> Trial:
    operation, key = folder.parent.name, folder.name
    about = ", ".join(f"{name} = {_shown(content)}" for name, content in {**files, **fields}.items())

    def judge() -> Verdict:
        world = known.world
        world.restore("finished")
        store = Store(world.cache)
        _publish(store, operation, key, files, fields)
        if shared:
            shutil.rmtree(world.folder / "shared")
            try:
                Remote(str(world.folder / "shared")).push(store.open(operation, key))
            except DamagedArtifact:  # a hostile publisher has no such scruples, but nothing that is worse
                return Verdict("unharmed")
            shutil.rmtree(world.cache / "artifacts")
            pulled = WRITERS["pull"].run(world)
            if problem := known.problem(WRITERS["pull"], pulled):
                return Verdict.of(pulled, f"`{WRITERS['pull'].line}`: {problem}")
        else:
            for path in (world.cache / "artifacts").glob("*/*"):  # what reads it runs again
                inputs = json.loads((path / "artifact.json").read_bytes())["inputs"] if path.name != key else {}
                if isinstance(inputs, dict) and key in inputs.values():
                    shutil.rmtree(path)
        run = WRITERS["rerun" if operation == "emit" else "short rerun"]
        for command in (first, run, READERS["verify"]):
            ended = command.run(world)
            if problem := known.problem(command, ended):
                return Verdict.of(ended, f"`{command.line}`: {problem}")
        return Verdict.of(ended, known.wrong_bytes() if ended.code == 0 else "")

    return Trial(f"{'pulled ' if shared else ''}{operation} {key[:8]} with {about}, then `{first.line}`", judge)


def _publish(store: Store, operation: str, key: str, files: Mapping[str, bytes], fields: Mapping[str, Any]) -> None:
    artifact = store.open(operation, key)
    data = {name: files.get(name, (artifact.folder / name).read_bytes()) for name in artifact.files}
    about = json.loads(
        json.dumps({k: v for k, v in artifact.descriptor.items() if k not in ("operation", "key", "files")})
    )

    def write(draft: Any) -> None:
        for name, content in data.items():
            draft.write(name, content)
            if "bytes" in fields:
                draft.files[name]["bytes"] = fields["bytes"]

    for field, value in fields.items():
        holder, _, name = field.rpartition(".")
        if field != "bytes":
            (about.get(holder, {}) if holder else about)[name] = value
    store.publish(operation, key, write, lambda: about, replace=True)


def _of_file(known: References, name: str, content: Any, command: Command, field: tuple[Any, ...] | str) -> Trial:
    where = ".".join(map(str, field))

    def judge() -> Verdict:
        command.prepare(known.world)
        path = known.world.folder / name
        data = content
        if field:
            document = json.loads(path.read_bytes())
            holder = document
            for key in field[:-1]:
                holder = holder[key]
            holder[field[-1]] = content
            data = _sealed(document)
        path.write_bytes(data)
        ended = command.run(known.world)
        return Verdict.of(ended, problem_of(ended))

    return Trial(f"{name}{f', {where}' if where else ''} = {_shown(content)}, then `{command.line}`", judge)
