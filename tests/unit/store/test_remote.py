"""A shared store: nothing unverified is served, nothing is half published, whatever a connection does."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.errors import DamagedArtifact, MissingExtra, MissingRequirement, UsageError
from autosparse.execute import step_runner
from autosparse.execute.step_runner import StepRunner
from autosparse.store import Artifact, Draft, Store
from autosparse.store import remote as module
from autosparse.store.descriptor import EMPTY
from autosparse.store.files import key_of
from autosparse.store.remote import Remote
from autosparse.store.sealed import seal, unseal

MADE_FROM: dict[str, Any] = {"version": 1, "options": {"seed": 0}, "inputs": {}}
KEY = key_of("mask", *MADE_FROM.values())
FILES = ("open", "info", "pipe_file", "put_file", "makedirs")


class Faulty:
    """A file system whose connection is lost at its nth request, for good or once; a write leaves half a file."""

    def __init__(self, files: Any, at: int, *, forever: bool = True) -> None:
        self.files, self.at, self.forever, self.made = files, at, forever, 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.files, name)
        if name not in FILES:
            return attribute

        def request(*arguments: Any, **options: Any) -> Any:
            self.made += 1
            if self.made == self.at or (self.forever and self.made > self.at):
                if name == "put_file":
                    half = Path(arguments[0]).read_bytes()[:-1]
                    self.files.pipe_file(arguments[1], half)
                raise ConnectionResetError("connection lost")
            return attribute(*arguments, **options)

        return request


class InTurn:
    """A file system that answers one request at a time."""

    def __init__(self, files: Any, turns: threading.Lock) -> None:
        self.files, self.turns = files, turns

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.files, name)
        if name not in FILES:
            return attribute

        def request(*arguments: Any, **options: Any) -> Any:
            with self.turns:
                return attribute(*arguments, **options)

        return request


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without a pause."""
    monkeypatch.setattr(module, "_PAUSE", 0.0)


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty shared store in memory, and on disk in a folder whose name looks like a chained URL."""
    return str(tmp_path / "shared::1") if request.param == "file" else f"memory://{uuid.uuid4().hex}"


def store_at(folder: Path, url: str, text: str = "one") -> Store:
    """A machine's cache with one artifact in it, connected to a shared store."""
    store = Store(folder)

    def write(draft: Draft) -> None:
        draft.write_json("value", text)
        draft.write("raw.bin", text.encode() * 100)

    store.publish("mask", KEY, write, lambda: {"seconds": 1.5, **MADE_FROM})
    store.connect(url)
    return store


def published(url: str) -> list[str]:
    """Return the published keys."""
    return [key for (_, key), _ in Remote(url).artifacts()]


def corrupted(url: str, change: Callable[[bytes], bytes]) -> None:
    """Change one published file."""
    remote = Remote(url)
    for path in remote._files.find(f"{remote._root}/files"):
        remote._files.pipe_file(path, change(remote._files.cat_file(path)))


def test_what_one_machine_publishes_another_has(tmp_path: Path, url: str) -> None:
    """By a look-up of its name, by reading a file of it, or by copying all of it."""
    one, two = store_at(tmp_path / "a", url), Store(tmp_path / "b", url)
    before = two.has("mask", KEY)
    assert one.share("mask", KEY)
    looked, here = two.open("mask", KEY).json("value"), two.holds("mask", KEY)
    fetched = two.bring("mask", KEY)

    assert (False, "one", False) == (before, looked, here)
    assert {KEY} == two.present([("mask", KEY), ("mask", KEY[::-1])])
    assert two.holds("mask", KEY)
    assert one.open("mask", KEY).descriptor == fetched.descriptor == two.open("mask", KEY).descriptor
    assert b"one" * 100 == fetched.read("raw.bin")
    assert [KEY] == published(url)


def test_the_first_of_two_writers_stays(tmp_path: Path, url: str) -> None:
    """The other replaces its bytes by the published ones, and continues from them."""
    one, two = store_at(tmp_path / "a", url), store_at(tmp_path / "b", url, "two")

    assert one.share("mask", KEY)
    assert two.share("mask", KEY)
    assert "one" == two.open("mask", KEY).json("value")
    assert one.open("mask", KEY).files == two.open("mask", KEY).files


def test_who_makes_it_anew_on_purpose_replaces_it(tmp_path: Path, url: str) -> None:
    """As `run --force` does; a machine that looks from then on sees the new one."""
    one, two = store_at(tmp_path / "a", url), store_at(tmp_path / "b", url, "two")
    one.share("mask", KEY)
    two.share("mask", KEY, replace=True)

    assert "two" == Store(tmp_path / "c", url).open("mask", KEY).json("value")


def test_many_writers_at_once_publish_once(tmp_path: Path, url: str) -> None:
    """Each ends with the bytes of the same one."""
    stores = [store_at(tmp_path / str(number), url, f"from {number}") for number in range(8)]
    turns = threading.Lock()  # fsspec's memory is for one thread: it is given one request at a time
    for store in stores:
        store._remote = Remote(url)
        if url.startswith("memory"):
            store._remote._files = InTurn(store._remote._files, turns)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda store: store.share("mask", KEY), stores))

    assert 1 == len({store.open("mask", KEY).json("value") for store in stores})
    assert 1 == len({str(store.open("mask", KEY).files) for store in [*stores, Store(tmp_path / "later", url)]})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(1, 16), forever=st.booleans())
def test_a_lost_connection_leaves_all_or_nothing(tmp_path: Path, url: str, at: int, forever: bool) -> None:
    """Wherever it is lost while one publishes: who reads finds the whole or nothing, and the next attempt completes."""
    target = f"{url}/{uuid.uuid4().hex}"
    folder = tmp_path / uuid.uuid4().hex
    one = store_at(folder / "a", target)
    broken = Remote(target)
    broken._files = Faulty(broken._files, at, forever=forever)
    one._remote = broken
    shared, problem = one.share("mask", KEY), one.problem
    reader = Store(folder / "b", target)
    seen = reader.has("mask", KEY)
    value = reader.bring("mask", KEY).json("value") if seen else None
    one.connect(target)
    again = one.share("mask", KEY)

    assert value in (None, "one")
    assert seen >= shared
    assert shared or problem is not None
    assert again
    assert "one" == Store(folder / "c", target).bring("mask", KEY).json("value")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(1, 12))
def test_a_connection_lost_while_reading_serves_nothing_wrong(tmp_path: Path, url: str, at: int) -> None:
    """The artifact is whole, or it is one that is to be made again."""
    folder, target = tmp_path / uuid.uuid4().hex, f"{url}/{uuid.uuid4().hex}"
    store_at(folder / "a", target).share("mask", KEY)
    reads: tuple[Callable[[Store], Artifact], ...] = (
        lambda store: store.bring("mask", KEY),
        lambda store: store.open("mask", KEY),
    )
    for read in reads:
        reader = Store(folder / uuid.uuid4().hex, target)
        reader._remote = Remote(target)
        reader._remote._files = Faulty(reader._remote._files, at)
        try:
            value = read(reader).json("value")
        except DamagedArtifact:
            value = None

        assert value in (None, "one")
        assert not list(reader.root.glob("drafts/*"))


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:]])
def test_damage_is_noticed_and_mended(tmp_path: Path, url: str, change: Callable[[bytes], bytes]) -> None:
    """Of a file that another program changed: it is not offered again, and a rebuilt artifact replaces it."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    corrupted(url, change)
    reader = Store(tmp_path / "b", url)

    assert reader.has("mask", KEY)
    with pytest.raises(DamagedArtifact, match="of the shared store"):
        reader.bring("mask", KEY)
    assert not reader.has("mask", KEY)
    maker = store_at(tmp_path / "b", url)
    maker._remote = reader._remote
    assert maker.share("mask", KEY)
    assert "one" == Store(tmp_path / "c", url).bring("mask", KEY).json("value")


def test_a_damaged_one_that_was_there_first_is_replaced(tmp_path: Path, url: str) -> None:
    """By another machine that built the same one; and a remote one is replaced by a deliberate rebuild."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    corrupted(url, lambda data: data[::-1])
    other = store_at(tmp_path / "b", url, "two")
    shared, value = other.share("mask", KEY), Store(tmp_path / "c", url).bring("mask", KEY).json("value")
    again = Store(tmp_path / "d", url)
    again.publish("mask", KEY, lambda draft: draft.write_json("value", "three"), lambda: MADE_FROM, replace=True)

    assert (True, "two") == (shared, value)
    assert again.share("mask", KEY, replace=True)
    assert "three" == Store(tmp_path / "e", url).bring("mask", KEY).json("value")


@pytest.mark.parametrize(
    ("operation", "key", "about"),
    [
        ("..", "artifacts", {}),
        ("..", "memory", {}),
        ("mask", "", {}),
        ("mask", "f" * 64, {}),
        ("mask", "f" * 64, MADE_FROM),
        ("mask", KEY, {**MADE_FROM, "options": {"seed": 1}}),
        ("mask", KEY, {**MADE_FROM, "inputs": None}),
        ("irp", KEY, MADE_FROM),
    ],
)
def test_names_and_keys_that_no_artifact_has_are_refused(
    tmp_path: Path, url: str, operation: str, key: str, about: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written outside of the artifact's folder, nothing is taken away, whatever a descriptor leaves out."""
    store, remote = store_at(tmp_path / "a", url), Remote(url)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    descriptor = seal({**EMPTY, "operation": operation, "key": key, "files": {}, **about})
    fetched: list[str] = []

    remote._files.makedirs(f"{remote._root}/artifacts/{operation}", exist_ok=True)
    remote._files.pipe_file(f"{remote._root}/artifacts/{operation}/{key}.json", descriptor)
    monkeypatch.setattr(remote, "_download", lambda about, path: fetched.append(about["sha256"]))
    with pytest.raises(DamagedArtifact):
        store.take(remote, operation, key)
    with pytest.raises(DamagedArtifact):
        remote.look(operation, key, tmp_path / "looked")
    listed = [(o, k) for (o, k), _ in remote.artifacts() if o == ".." or len(k) < 64]

    assert not fetched
    assert not listed
    assert before.items() <= {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}.items()


@pytest.mark.parametrize("damage", ["changed", "shortened", "gone"])
def test_what_is_damaged_here_is_not_published(tmp_path: Path, url: str, damage: str) -> None:
    """Nor reported as the shared store's fault."""
    store = store_at(tmp_path / "a", url)
    path = store.open("mask", KEY).folder / "raw.bin"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[::-1] if damage == "changed" else b"")

    with pytest.raises(DamagedArtifact):
        store.share("mask", KEY)
    assert store.problem is None
    assert not published(url)


def test_what_is_published_is_checked_once(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a caller's check, if any; nothing is read for a shared store that is known to be unreachable."""
    store, read, files = store_at(tmp_path / "a", url), list[str](), Artifact.read

    def recorded(artifact: Artifact, name: str) -> bytes:
        read.append(name)
        return files(artifact, name)

    monkeypatch.setattr(Artifact, "read", recorded)
    store.share("mask", KEY, check=lambda artifact: artifact.json("value"))
    checked = read.copy()
    store._remote._files = Faulty(store._remote._files, 1)  # type: ignore[union-attr]
    shared = [store.share("mask", KEY, replace=True) for _ in range(3)]

    assert ["value.json"] == checked
    assert [False] * 3 == shared
    assert ["raw.bin", "value.json"] == sorted(read[1:])


def test_a_reused_step_is_read_once_to_be_shared(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the check of its step; not at all without a connection."""
    store, checked = store_at(tmp_path / "a", url), list[str]()
    step: Any = SimpleNamespace(name="mask", operation="mask", key=KEY)
    observer: Any = SimpleNamespace(on_event=lambda _: None)
    runner = StepRunner(SimpleNamespace(steps={}), store, observer, SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setattr(step_runner, "check", lambda artifact: checked.append(artifact.key))
    monkeypatch.setattr(Artifact, "read", lambda artifact, name: checked.append(name))
    runner.reuse(step)
    there = published(url)
    store._until = math.inf
    runner.reuse(step)

    assert [KEY] == checked == there


def test_sizes_are_asked_in_parallel(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request after the other would take a second for each of a few files of a distant store."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    remote, both, info = Remote(url), threading.Barrier(2, timeout=2), Remote._info
    files = next(about["files"] for _, about in remote.artifacts()).values()

    def meets(self: Remote, path: str) -> Any:
        both.wait()
        return info(self, path)

    monkeypatch.setattr(Remote, "_info", meets)
    remote.check_sizes(files)
    with pytest.raises(DamagedArtifact, match="its descriptor says 1,000"):
        remote.check_sizes([{**about, "bytes": 1000} for about in files])


def test_a_folder_without_links_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As buckets are that are mounted; still the first of two writers stays."""

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    url = str(tmp_path / "shared")
    one, two = store_at(tmp_path / "a", url), store_at(tmp_path / "b", url, "two")

    assert (True, True) == (one.share("mask", KEY), two.share("mask", KEY))
    assert "one" == two.open("mask", KEY).json("value")


def test_a_disk_of_another_machine_is_a_store(tmp_path: Path) -> None:
    """One whose file system makes no folders by itself, as over SFTP."""
    remote = Remote(str(tmp_path / "shared"))
    remote._local = False
    remote._files = type(remote._files)(auto_mkdir=False)
    store = store_at(tmp_path / "a", remote.url)
    store._remote = remote

    assert store.share("mask", KEY)
    assert "one" == Store(tmp_path / "b", remote.url).bring("mask", KEY).json("value")


def test_damage_is_noticed_by_who_reads_one_file(tmp_path: Path, url: str) -> None:
    """It is one to make again."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    corrupted(url, lambda data: data[::-1])
    reader = Store(tmp_path / "b", url)

    with pytest.raises(DamagedArtifact, match="differs from the published file"):
        reader.open("mask", KEY).json("value")
    assert not reader.has("mask", KEY)


def test_half_a_descriptor_is_none(tmp_path: Path, url: str) -> None:
    """A file system that does not write whole files may leave one: it is replaced by who publishes next."""
    one, remote = store_at(tmp_path / "a", url), Remote(url)
    one.share("mask", KEY)
    path = remote._descriptor("mask", KEY)
    remote._files.pipe_file(path, remote._files.cat_file(path)[:40])

    assert [] == published(url)
    with pytest.raises(DamagedArtifact):
        Store(tmp_path / "b", url).bring("mask", KEY)
    assert one.share("mask", KEY)
    one.connect(url)
    assert one.share("mask", KEY)
    assert [KEY] == published(url)


def test_what_is_gone_is_made_again(tmp_path: Path, url: str) -> None:
    """Files that were removed behind a descriptor, and a descriptor that was removed behind a plan."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    reader, remote = Store(tmp_path / "b", url), Remote(url)
    assert reader.has("mask", KEY)
    remote._files.rm(remote._descriptor("mask", KEY))

    with pytest.raises(DamagedArtifact, match="is gone"):
        reader.bring("mask", KEY)
    assert not reader.has("mask", KEY)


def test_a_descriptor_cannot_name_a_way_out(tmp_path: Path, url: str) -> None:
    """Nothing is written but into the artifact's own folder."""
    one, remote = store_at(tmp_path / "a", url), Remote(url)
    one.share("mask", KEY)
    path = remote._descriptor("mask", KEY)
    about = unseal(remote._files.cat_file(path))
    remote._files.pipe_file(path, seal({**about, "files": {"../x.bn": about["files"]["raw.bin"]}}))

    with pytest.raises(DamagedArtifact, match="odd name of a file"):
        Store(tmp_path / "b", url).bring("mask", KEY)
    assert not list(tmp_path.rglob("x.bn"))


def test_without_a_connection_there_is_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails, the reason is kept, and the store is not asked again at once."""
    store = store_at(tmp_path / "a", f"memory://{uuid.uuid4().hex}")
    store._remote = Remote(str(store.url))
    store._remote._files = faulty = Faulty(store._remote._files, 1)

    assert not store.has("mask", KEY[::-1])
    assert isinstance(store.problem, MissingRequirement)
    assert "cannot be read: connection lost" in store.problem.message
    made = faulty.made
    assert not store.share("mask", KEY)
    assert made == faulty.made
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    store._remote._files = faulty.files
    assert store.share("mask", KEY)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """A protocol that nobody has, and one whose library is missing."""
    with pytest.raises(UsageError, match="cannot be opened"):
        Store(tmp_path, "nosuch://x/y").has("mask", KEY)
    with pytest.raises(MissingExtra, match="needs a library"):
        Store(tmp_path, "s3://bucket/x").has("mask", KEY)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    """A name that ends in `.zip` does not make a zip file."""
    (tmp_path / "a.zip").write_bytes(b"PK")

    with pytest.raises(UsageError, match="is not a zip file"):
        Remote(str(tmp_path / "a.zip"))


def described(remote: Remote, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the published descriptor."""
    path = remote._descriptor("mask", KEY)
    about = unseal(remote._files.cat_file(path))
    change(about["files"])
    remote._files.pipe_file(path, seal(about))


@pytest.mark.parametrize("declared", [1, 10**15, 10**30, -1, True, 299.0])
def test_a_file_of_another_size_than_declared_is_refused_before_it_is_read(
    tmp_path: Path, url: str, declared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, neither by a copy nor by a look."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    reader, remote = Store(tmp_path / "b", url), Remote(url)
    described(remote, lambda files: files["raw.bin"].update(bytes=declared))
    monkeypatch.setattr(remote, "_download", lambda about, path: pytest.fail("nothing may be fetched"))

    with pytest.raises(DamagedArtifact):
        reader.take(remote, "mask", KEY)
    with pytest.raises(DamagedArtifact):
        remote.look("mask", KEY, tmp_path / "looked").read("raw.bin")


def test_a_download_stops_at_the_declared_size(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that reports no size, or a wrong one, fills no disk."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    remote = Remote(url)
    monkeypatch.setattr(remote, "_size", lambda path: None)
    described(remote, lambda files: files["raw.bin"].update(bytes=7))

    with pytest.raises(DamagedArtifact, match="larger than it may be"):
        Store(tmp_path / "b").take(remote, "mask", KEY)
    sha256 = json.loads(remote._files.cat_file(remote._descriptor("mask", KEY)))["files"]["raw.bin"]["sha256"]
    with pytest.raises(DamagedArtifact), remote.reading("mask", KEY) as (_, download):
        download({"sha256": sha256, "bytes": 7}, tmp_path / "draft")

    assert (tmp_path / "draft").stat().st_size <= 7


def test_a_full_disk_is_noticed_before_a_copy(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of all files are compared with the free space."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    remote = Remote(url)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    monkeypatch.setattr(remote, "_download", lambda about, path: pytest.fail("nothing may be fetched"))

    with pytest.raises(MissingRequirement, match="has 10 B free"):
        Store(tmp_path / "b").take(remote, "mask", KEY)


def test_a_descriptor_without_end_is_no_artifact(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reading stops at a limit, and the others are listed."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    remote = Remote(url)
    remote._files.pipe_file(remote._descriptor("mask", KEY[::-1]), b" " * 10_000)
    monkeypatch.setattr(module, "LARGEST_NOTE", 9_000)

    assert [KEY] == [key for (_, key), _ in remote.artifacts()]
    with pytest.raises(DamagedArtifact, match="larger than it may be"):
        Store(tmp_path / "b").take(remote, "mask", KEY[::-1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_shared_folder_is_damage(tmp_path: Path) -> None:
    """It is refused at once, as a file and as a descriptor."""
    store_at(tmp_path / "a", str(tmp_path / "shared")).share("mask", KEY)
    remote = Remote(str(tmp_path / "shared"))
    file = next(path for path in (tmp_path / "shared" / "files").rglob("*") if path.is_file())
    file.unlink()
    os.mkfifo(file)
    os.mkfifo(remote._descriptor("mask", KEY[::-1]))

    with pytest.raises(DamagedArtifact):
        Store(tmp_path / "b").take(remote, "mask", KEY)
    with pytest.raises(DamagedArtifact, match="named pipe"):
        Store(tmp_path / "c").take(remote, "mask", KEY[::-1])


def test_an_artifact_that_goes_while_they_are_listed_is_left_out(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may collect it meanwhile."""
    store_at(tmp_path / "a", url).share("mask", KEY)
    remote = Remote(url)
    listed = remote._listed

    def gone(pattern: str) -> Sequence[str]:
        paths = listed(pattern)
        remote._files.rm(paths[0])
        return paths

    monkeypatch.setattr(remote, "_listed", gone)

    assert [] == [*remote.artifacts()]
