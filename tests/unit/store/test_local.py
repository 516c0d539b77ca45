"""Artifacts exist whole or not at all, are verified whenever they are read, and are made by one process at a time."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.errors import DamagedArtifact, MissingRequirement
from autosparse.steps._base import reading
from autosparse.store import Artifact, Draft, Store, dump_tensors, load_tensors
from autosparse.store.sealed import unseal
from tests.sealing import edit, flips

KEY = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "cache")


def write(draft: Draft) -> None:
    """A small artifact: a value and some bytes."""
    draft.write_json("value", {"b": [1, 2.5], "a": "é"})
    draft.write("raw.bin", bytes(range(256)))


def publish(store: Store, key: str = KEY, fill: Callable[[Draft], None] = write) -> Artifact:
    """Publish a small artifact."""
    return store.publish("mask", key, fill, lambda: {"seconds": 1.5})


def visible(store: Store) -> list[str]:
    """The keys of what the store holds."""
    return [artifact.key for artifact in store.artifacts()]


def test_what_is_published_can_be_opened(store: Store) -> None:
    """An opened artifact has the files, the bytes and the description it was published with."""
    made = publish(store)
    artifact = store.open("mask", KEY)

    assert store.has("mask", KEY)
    assert (KEY, store.root / "artifacts" / "mask" / KEY) == (artifact.key, artifact.folder)
    assert made.descriptor == artifact.descriptor
    assert {"raw.bin", "value.json"} == set(artifact.files)
    assert bytes(range(256)) == artifact.read("raw.bin")
    assert {"a": "é", "b": [1, 2.5]} == artifact.json("value")
    assert 1.5 == artifact.descriptor["seconds"]
    assert "mask" == artifact.descriptor["operation"]


def test_the_descriptor_names_bytes_and_digests(store: Store) -> None:
    """Every file has its size and sha256, which any tool can check."""
    artifact = publish(store)

    assert {"sha256": hashlib.sha256(bytes(range(256))).hexdigest(), "bytes": 256} == artifact.files["raw.bin"]
    assert unseal((artifact.folder / "artifact.json").read_bytes()) == artifact.descriptor


def test_nothing_else_is_left_behind(store: Store) -> None:
    """After publishing there is the artifact and no draft."""
    publish(store)

    assert ["artifact.json", "raw.bin", "value.json"] == sorted(
        path.name for path in store.root.rglob("*") if path.is_file()
    )


def test_equal_values_are_equal_bytes(store: Store) -> None:
    """JSON is written in its canonical form."""
    one = publish(store, "1" * 64, lambda draft: draft.write_json("v", {"a": 1, "b": 2}))
    other = publish(store, "2" * 64, lambda draft: draft.write_json("v", {"b": 2, "a": 1}))

    assert one.files == other.files


def test_what_was_not_published_is_not_there(store: Store) -> None:
    """Another key or operation is absent, and cannot be opened."""
    publish(store)

    assert not store.has("mask", "f" * 64)
    assert not store.has("train", KEY)
    with pytest.raises(DamagedArtifact):
        store.open("train", KEY)


def test_artifacts_are_listed_by_operation_and_key(store: Store) -> None:
    """The order of a listing does not depend on when things were made."""
    for operation, key in (("train", "a"), ("mask", "c"), ("mask", "b")):
        store.publish(operation, key, write, dict)

    assert ["b", "c", "a"] == visible(store)


def test_an_empty_store_holds_nothing(store: Store) -> None:
    """A store without a folder lists and verifies nothing, and creates nothing."""
    assert [] == visible(store)
    assert [] == list(store.verify())
    assert store.recall("name") is None
    assert not store.root.exists()


def test_replacing_keeps_the_old_one_until_the_new_one_is_whole(store: Store) -> None:
    """While the new one is written, and when that fails, the old one is read; afterwards nothing of it is left."""
    publish(store)

    def fill(draft: Draft) -> None:
        draft.write("other.bin", b"new")
        assert bytes(range(256)) == store.open("mask", KEY).read("raw.bin")

    def fail(draft: Draft) -> None:
        fill(draft)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.publish("mask", KEY, fail, dict, replace=True)
    assert {"raw.bin", "value.json"} == set(store.open("mask", KEY).files)
    old = store.open("mask", KEY)
    store.publish("mask", KEY, fill, dict, replace=True)

    assert {"other.bin"} == set(store.open("mask", KEY).files)
    assert b"new" == store.open("mask", KEY).read("other.bin")
    with pytest.raises(DamagedArtifact):  # who held the old one notices
        old.read("raw.bin")
    assert [] == list((store.root / "drafts").iterdir())
    assert not (store.root / "damaged").exists()


def test_what_a_kill_left_of_a_replacement_goes(store: Store) -> None:
    """The old one, left aside by a process that died while replacing it, is removed by the next."""
    aside = store.root / "drafts" / f"{KEY}.old"
    aside.mkdir(parents=True)
    (aside / "raw.bin").write_bytes(b"old")
    publish(store)

    assert [] == list((store.root / "drafts").iterdir())
    assert bytes(range(256)) == store.open("mask", KEY).read("raw.bin")


def test_a_failed_draft_leaves_nothing(store: Store) -> None:
    """An error in the middle of a draft is passed on; the next call publishes."""

    def fail(draft: Draft) -> None:
        write(draft)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        publish(store, fill=fail)

    assert not store.has("mask", KEY)
    assert [] == [path for path in store.root.rglob("*") if path.is_file()]
    assert publish(store).read("raw.bin")


def test_a_lock_is_free_after_an_error(store: Store) -> None:
    """Whatever happens while a lock is held, it is given back; nobody was kept waiting."""
    with pytest.raises(RuntimeError, match="inside"), store.lock(KEY, wait=False):
        raise RuntimeError("inside")
    with store.lock(KEY, wait=False, waiting=lambda: pytest.fail("nobody holds it")):
        pass


def test_threads_take_turns(store: Store) -> None:
    """A lock holds between threads of one process too."""
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with store.lock(KEY):
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert (0, 1) == (inside, most)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Cut the last byte off."""
    path.write_bytes(path.read_bytes()[:-1])


def extend(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [flip, truncate, extend, Path.unlink], ids=lambda damage: damage.__name__)
def test_damaged_bytes_are_never_read(store: Store, damage: Callable[[Path], None]) -> None:
    """A file that differs from the published file raises DamagedArtifact, naming it and its key."""
    artifact = publish(store)
    damage(artifact.folder / "raw.bin")

    with pytest.raises(DamagedArtifact) as caught:
        store.open("mask", KEY).read("raw.bin")

    assert KEY == caught.value.key
    assert 4 == caught.value.exit_code
    assert caught.value.message.startswith(f"artifact {artifact.folder} is damaged: raw.bin ")
    assert "é" in store.open("mask", KEY).json("value")["a"]


def test_a_file_that_was_not_published_is_not_read(store: Store) -> None:
    """Files that others add to the folder are no part of the artifact."""
    artifact = publish(store)
    (artifact.folder / "more.bin").write_bytes(b"1")

    with pytest.raises(DamagedArtifact):
        artifact.read("more.bin")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"key": "another", "files": {}}',
        f'{{"key": "{KEY}"}}'.encode(),
        f'{{"key": "{KEY}", "files": []}}'.encode(),
    ],
)
def test_a_corrupt_descriptor_is_damage(store: Store, text: bytes) -> None:
    """An invalid descriptor, or another artifact's, is reported as damage and is not listed."""
    (publish(store).folder / "artifact.json").write_bytes(text)

    with pytest.raises(DamagedArtifact, match=r"artifact\.json"):
        store.open("mask", KEY)
    assert [] == visible(store)
    assert [False] == [problem is None for _, problem in store.verify()]


@pytest.mark.parametrize("entry", [3, None, "text", []])
def test_a_descriptor_with_odd_entries_is_damage(store: Store, entry: Any) -> None:
    """Entries of a descriptor are checked before use."""
    edit(publish(store).folder / "artifact.json", lambda about: {**about, "files": {"raw.bin": entry}})

    with pytest.raises(DamagedArtifact):
        store.open("mask", KEY).verify()


def test_a_descriptor_with_another_digest_is_damage(store: Store) -> None:
    """A flipped bit in the descriptor's digest is damage like one in the file."""
    other = {"raw.bin": {"sha256": "0" * 64, "bytes": 256}}
    edit(publish(store).folder / "artifact.json", lambda about: {**about, "files": other})

    with pytest.raises(DamagedArtifact):
        store.open("mask", KEY).read("raw.bin")


def test_verify_tells_what_is_wrong_where(store: Store) -> None:
    """Every artifact is yielded with None or with its first damage."""
    folders = {key: publish(store, key).folder for key in "abcd"}
    flip(folders["b"] / "raw.bin")
    (folders["c"] / "value.json").unlink()
    (folders["d"] / "artifact.json").write_text("{")

    problems = dict(store.verify())

    assert list(folders.values()) == list(problems)
    assert problems[folders["a"]] is None
    for key, name in (("b", "raw.bin"), ("c", "value.json"), ("d", "artifact.json")):
        assert f"artifact {folders[key]} is damaged: {name}" in str(problems[folders[key]])


def test_verify_judges_an_artifact_again_that_a_writer_replaces(store: Store) -> None:
    """The old descriptor and a new file are no damage; an artifact that is removed meanwhile is not listed."""
    for key in ("a", "b", "c"):
        publish(store, key)
    flip(store.open("mask", "c").folder / "raw.bin")
    replaced = list[str]()

    def after_a_writer(artifact: Artifact) -> None:
        if artifact.key not in replaced:
            replaced.append(artifact.key)
            if artifact.key == "a":
                fill = lambda draft: draft.write("raw.bin", b"new")  # noqa: E731
                store.publish("mask", "a", fill, dict, replace=True)
            if artifact.key == "b":
                store.remove("mask", "b")
        artifact.verify()

    assert {"a": True, "c": False} == {path.name: problem is None for path, problem in store.verify(after_a_writer)}


def test_damage_is_set_aside_under_a_number(store: Store) -> None:
    """A damaged artifact is kept for looking at, each under its own name, and its place is free again."""
    kept = []
    for number in range(3):
        folder = publish(store, fill=lambda draft, number=number: draft.write_json("n", number)).folder  # type: ignore[misc]
        kept.append(store.set_aside("mask", KEY))

        assert not folder.exists()
        assert not store.has("mask", KEY)

    assert [f"mask-{KEY}", f"mask-{KEY}-2", f"mask-{KEY}-3"] == [path.name for path in kept]
    assert ["0", "1", "2"] == [(path / "n.json").read_text() for path in kept]
    assert [] == visible(store)
    assert [] == list(store.verify())


def test_an_artifact_that_lost_its_descriptor_is_made_again(store: Store) -> None:
    """Files without a descriptor are no artifact, and do not stand in the way of one."""
    (publish(store).folder / "artifact.json").unlink()

    assert not store.has("mask", KEY)
    assert publish(store).read("raw.bin")


def test_a_stray_file_is_no_artifact(store: Store) -> None:
    """Files that a file manager leaves among the artifacts are not listed."""
    publish(store)
    (store.root / "artifacts" / ".DS_Store").touch()
    (store.root / "artifacts" / "mask" / ".DS_Store").touch()

    assert [KEY] == visible(store)


def test_a_stray_file_is_not_damage(store: Store) -> None:
    """Files that a file manager leaves among the artifacts are not reported as damage."""
    folder = publish(store).folder
    (store.root / "artifacts" / "mask" / ".DS_Store").touch()

    assert [(folder, None)] == list(store.verify())


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(publish, id="publish"),
        pytest.param(lambda store: store.lock(KEY).__enter__(), id="lock"),
        pytest.param(lambda store: store.remember("name", 1), id="remember"),
    ],
)
def test_a_cache_that_cannot_be_written_is_an_environment_error(tmp_path: Path, use: Callable[[Store], object]) -> None:
    """A cache that is a file, or is not writable, is an error with a remedy and exit code 5."""
    (tmp_path / "cache").touch()

    with pytest.raises(MissingRequirement) as caught:
        use(Store(tmp_path / "cache"))

    assert 5 == caught.value.exit_code
    assert f"{tmp_path / 'cache'}" in caught.value.message
    assert "cannot be written: " in caught.value.message
    assert "name another folder in `AUTOSPARSE_CACHE_DIR`" == caught.value.hint


def test_a_lock_that_cannot_be_written_is_an_environment_error(store: Store) -> None:
    """A lock's file that cannot be opened is an error like that of any other file of the cache."""
    (store.root / "locks" / f"{KEY}.lock").mkdir(parents=True)

    with pytest.raises(MissingRequirement), store.lock(KEY, wait=False):
        pass


def test_a_file_that_cannot_be_written_is_an_environment_error(store: Store) -> None:
    """A draft's file that cannot be written is reported by its path, and leaves nothing."""
    with pytest.raises(MissingRequirement, match=r"absent.folder/name cannot be written"):
        publish(store, fill=lambda draft: draft.write("absent folder/name", b""))

    assert [] == visible(store)


def test_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AUTOSPARSE_CACHE_DIR` names the cache, `~` and relative paths included; else it is the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    result = {}
    for named in ("", "here", "~/there", "/some/where"):
        monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", named)
        result[named] = Store.default().root

    assert tmp_path / "here" == result["here"]
    assert tmp_path / "home" / "there" == result["~/there"]
    assert Path("/some/where") == result["/some/where"]
    assert "autosparse" in result[""].parts


@pytest.mark.parametrize("value", ["a text", 3, [1, {"a": None}], {"é": 1.5}, False, None], ids=str)
def test_what_is_remembered_is_recalled(store: Store, value: Any) -> None:
    """Small values are kept by name, the last one written."""
    store.remember("name", "before")
    store.remember("name", value)
    store.remember("other", "another")

    assert value == store.recall("name")
    assert ["name.json", "other.json"] == sorted(path.name for path in (store.root / "memory").iterdir())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"1", b'{"name": "name", "value": 1}', b"another's", b"[" * 9999])
def test_a_memory_that_cannot_be_read_is_none(store: Store, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Memory is not an input: a damaged one counts as empty, with one warning, and is made again."""
    store.remember("name", 1)
    store.remember("other", 2)
    path = store.root / "memory" / "name.json"
    path.write_bytes(data if data != b"another's" else (path.parent / "other.json").read_bytes())

    assert (None, None, 2) == (store.recall("name"), store.recall("never"), store.recall("other"))
    (warning,) = caplog.messages
    assert warning.startswith(f"{path} is damaged: ")
    assert [path] == [file for file, problem in store.verify_memory() if problem]
    store.remember("name", 1)
    assert [None, None] == [problem for _, problem in store.verify_memory()]


def test_every_flipped_bit_of_memory_is_noticed(store: Store) -> None:
    """In every byte of a file: the value is the same or none."""
    store.remember("network", {"parameters": 1210, "layers": [{"name": "a", "size": 5}]})
    path = store.root / "memory" / "network.json"
    whole, known = path.read_bytes(), store.recall("network")
    for flipped in flips(whole, 1):
        path.write_bytes(flipped)

        assert store.recall("network") in (None, known)


TENSORS = {
    "b.weight": torch.linspace(-1, 1, 12).reshape(3, 4),
    "a": torch.tensor([True, False, True]),
    "scalar": torch.tensor(1.5, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "halves": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "odd": torch.tensor([math.inf, -math.inf, -0.0, 5e-324], dtype=torch.float64),
    "whole": torch.tensor([[2**62, -1]]),
    "bytes": torch.arange(256).to(torch.uint8),
}


def test_tensors_are_read_as_they_were_written(store: Store) -> None:
    """Names, types, shapes and every bit come back."""
    artifact = publish(store, fill=lambda draft: draft.write_tensors("state", TENSORS)).tensors("state")

    assert set(TENSORS) == set(artifact)
    for name, tensor in TENSORS.items():
        assert (tensor.dtype, tensor.shape) == (artifact[name].dtype, artifact[name].shape)
        assert torch.equal(tensor, artifact[name])
    assert math.copysign(1, artifact["odd"][2].item()) == -1


def test_tensors_that_are_equal_are_equal_bytes() -> None:
    """Layout, sharing, gradients and the order of names do not show in the bytes."""
    square = torch.arange(16.0).reshape(1, 4, 2, 2)
    plain = {"a": square, "b": square.clone()}
    other = {
        "b": square.to(memory_format=torch.channels_last).requires_grad_(),
        "a": torch.stack([square, square], dim=-1)[..., 0],
    }

    assert dump_tensors(plain) == dump_tensors(other)
    assert dump_tensors(plain) == dump_tensors({"a": square, "b": square})
    assert dump_tensors(plain) == dump_tensors(load_tensors(dump_tensors(plain)))


def test_damaged_tensors_are_never_read(store: Store) -> None:
    """A flipped bit in a tensor's file is damage, wherever it is."""
    artifact = publish(store, fill=lambda draft: draft.write_tensors("state", TENSORS))
    flip(artifact.folder / "state.safetensors")

    with pytest.raises(DamagedArtifact):
        artifact.tensors("state")


def packed(header: object, body: bytes) -> bytes:
    """safetensors bytes with any header."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = '{"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        (2**60).to_bytes(8, "little") + b"{}",
        packed("{", b""),
        packed("[]x", b""),
        packed(f'{{"a": {GOOD}, "a": {GOOD}}}', b"12"),
        packed(f'{{"a": {GOOD}, "b": {GOOD}}}', b"12"),
        packed(f'{{"a": {GOOD}}}', b"1"),
        packed(f'{{"a": {GOOD}}}', b"123"),
        packed({"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 2]}}, b"12"),
        packed({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"12"),
    ],
    ids=[
        "empty", "short", "huge header", "open header", "no JSON", "name twice", "overlap", "too few bytes",
        "too many bytes", "shape beyond its bytes", "hole",
    ],
)  # fmt: skip
def test_odd_tensor_files_are_refused(data: bytes) -> None:
    """Bytes that safetensors would take, or take apart wrongly, raise ValueError before it sees them."""
    with pytest.raises(ValueError, match=r"."):
        load_tensors(data)


@pytest.mark.parametrize(
    "fields",
    [
        3,
        {"dtype": "U8"},
        {"dtype": "X9", "shape": [], "data_offsets": [0, 0]},
        {"dtype": "U8", "shape": None, "data_offsets": [0, 0]},
        {"dtype": "U8", "shape": [-1, 0], "data_offsets": [0, 0]},
        {"dtype": "U8", "shape": [0.0], "data_offsets": [0, 0]},
    ],
    ids=str,
)
def test_odd_tensor_headers_are_refused(fields: object) -> None:
    """Headers of the wrong shape raise ValueError like all else."""
    with pytest.raises(ValueError, match=r"."):
        load_tensors(packed({"a": fields}, b""))


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.integers(0, 60))
def test_any_bytes_in_place_of_tensors_are_damage(tmp_path: Path, data: bytes, size: int) -> None:
    """Whatever was published under a tensor file's name, reading it as tensors is damage and no crash."""
    content = size.to_bytes(8, "little") + data
    key = hashlib.sha256(content).hexdigest()
    store = Store(tmp_path)
    if not store.has("mask", key):
        publish(store, key, lambda draft: draft.write("state.safetensors", content))

    with pytest.raises(DamagedArtifact):
        store.open("mask", key).tensors("state")


NO_DAMAGE = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize("error", NO_DAMAGE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("reader", ["tensors", "content", "json"])
def test_a_lack_of_memory_is_no_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, reader: str
) -> None:
    """Readers pass it on, as they do a library that cannot be imported: the artifact is intact."""

    def fail(*_: object, **__: object) -> None:
        raise error

    def fill(draft: Draft) -> None:
        write(draft)
        draft.write_tensors("state", {})

    def interpret(artifact: Artifact) -> None:
        with reading(artifact, "state.safetensors"):
            fail()

    readers: dict[str, Callable[[Artifact], object]] = {
        "tensors": lambda artifact: artifact.tensors("state"),
        "json": lambda artifact: artifact.json("value"),
        "content": interpret,
    }
    artifact = publish(store, fill=fill)
    monkeypatch.setattr(safetensors.torch, "load", fail)
    if reader == "json":
        monkeypatch.setattr(json, "loads", fail)
    with pytest.raises(type(error)) as caught:
        readers[reader](artifact)

    assert error is caught.value
