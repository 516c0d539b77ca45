"""Artifacts on disk: `artifacts/<operation>/<key>/` holds files and a descriptor with the sha256 of each.

An artifact is drafted elsewhere, flushed and moved here in one rename: whole or not at all, whenever the process dies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from autosparse.errors import Busy, DamagedArtifact, MissingExtra, MissingRequirement
from autosparse.store.artifact import DESCRIPTOR, Artifact, Draft, read_descriptor, read_foreign
from autosparse.store.files import canonical, drafted, file_digest, flush, writing
from autosparse.store.remote import Remote

Result = TypeVar("Result")

_AGAIN = 60.0  # seconds until a shared store that could not be reached is tried again


class Store:
    """A folder of artifacts that any number of processes may share.

    Connected to a shared store it is a cache of that: artifacts are fetched when they are read, and `share` publishes
    there. A store that cannot be reached counts as empty, and `problem` says why.
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root = root
        self.url = url
        self.problem: MissingRequirement | None = None
        self._remote: Remote | None = None
        self._until = 0.0  # no attempt to reach it before

    @classmethod
    def default(cls) -> Store:
        """`AUTOSPARSE_CACHE_DIR`, or autosparse's folder in the user's cache directory."""
        import platformdirs

        named = os.environ.get("AUTOSPARSE_CACHE_DIR")
        root = Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("autosparse"))
        if root.exists() and not root.is_dir():
            raise MissingRequirement(f"the cache {root} is not a folder", "name a folder in `AUTOSPARSE_CACHE_DIR`")
        return cls(root)

    def connect(self, url: str | None) -> None:
        """Take what is not here from the shared store of this URL, from now on; None is as before."""
        self.url, self._remote, self.problem, self._until = url, None, None, 0.0

    def holds(self, operation: str, key: str) -> bool:
        """Whether the artifact is in the store's own folder."""
        return (self._folder(operation, key) / DESCRIPTOR).is_file()

    def has(self, operation: str, key: str) -> bool:
        """Whether the artifact was published; its bytes are checked when they are read."""
        return self.holds(operation, key) or bool(self._ask(lambda remote: remote.has(operation, key)))

    def present(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """The keys of those artifacts, by operation and key, that were published: `has` for many."""
        present = {key for operation, key in named if self.holds(operation, key)}
        others = [one for one in named if one[1] not in present]
        return present | ((self._ask(lambda remote: remote.present(others)) if others else None) or set())

    def elsewhere(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """The keys of those artifacts that are in the shared store, whether here too or not."""
        return self._ask(lambda remote: remote.present(named)) or set()

    def open(self, operation: str, key: str) -> Artifact:
        """A published artifact. Raises DamagedArtifact when its descriptor cannot be trusted."""
        folder = self._folder(operation, key)
        if self.url and not self.holds(operation, key) and self.has(operation, key):
            there = self.root / "fetched" / key
            artifact = self._ask(lambda remote: remote.look(operation, key, there))
            if artifact is not None:
                return artifact
        try:
            descriptor = read_descriptor((folder / DESCRIPTOR).read_bytes(), key)
        except (OSError, DamagedArtifact) as error:
            raise DamagedArtifact(key, f"artifact {folder} is damaged: {DESCRIPTOR}: {error}") from error
        return Artifact(folder, key, descriptor)

    def bring(self, operation: str, key: str) -> Artifact:
        """A published artifact with all of its files in the store's own folder."""
        if self.url and not self.holds(operation, key) and self.has(operation, key):
            self._ask(lambda remote: self.take(remote, operation, key))
        return self.open(operation, key)

    def share(self, operation: str, key: str, *, replace: bool = False) -> bool:
        """Publish an artifact in the shared store; False where that is not possible now.

        Unless `replace`, one that exists replaces the one here, so that all go on from the same bytes.
        """
        artifact = self.open(operation, key)
        if self._reachable:
            artifact.verify()

        def act(remote: Remote) -> bool:
            if not remote.push(artifact, replace=replace):
                try:
                    self.take(remote, operation, key)
                except DamagedArtifact:
                    remote.push(artifact, replace=True)
            return True

        return bool(self._ask(act))

    def take(self, remote: Remote, operation: str, key: str) -> Artifact:
        """Copy an artifact from a shared store here, in place of one with other files. Raises DamagedArtifact."""
        target = self._folder(operation, key)
        with remote.reading(operation, key) as (descriptor, download):
            parsed = read_foreign(descriptor, operation, key)
            with suppress(OSError, DamagedArtifact):
                if read_descriptor((target / DESCRIPTOR).read_bytes(), key)["files"] == parsed["files"]:
                    return Artifact(target, key, parsed)
            with self._replacing(target, f"{key}.{uuid.uuid4().hex}") as (draft, old):
                for name, about in parsed["files"].items():
                    try:
                        download(about["sha256"], draft.folder / name)
                    except FileNotFoundError as error:
                        raise DamagedArtifact(key, f"{Path(error.filename or '').name} is missing") from error
                    if file_digest(draft.folder / name) != about["sha256"]:
                        raise DamagedArtifact(key, f"{name} differs from the published file")
                    flush(draft.folder / name)
                draft.write(DESCRIPTOR, descriptor)
                flush(draft.folder)
                with suppress(FileNotFoundError):
                    target.rename(old)
                try:
                    draft.folder.rename(target)
                except OSError:
                    if not self.holds(operation, key):  # else another process has taken it in the meantime
                        raise
            return Artifact(target, key, parsed)

    @property
    def _reachable(self) -> bool:
        # Whether there is a shared store, as far as is known.
        return self.url is not None and time.monotonic() >= self._until

    def _ask(self, act: Callable[[Remote], Result]) -> Result | None:
        # What the shared store says; None where there is none, or it cannot be reached, or could not a moment ago.
        if not self._reachable:
            return None
        assert self.url is not None
        try:
            self._remote = self._remote or Remote(self.url)
            return act(self._remote)
        except MissingExtra:
            raise
        except MissingRequirement as problem:
            self.problem, self._until = problem, time.monotonic() + _AGAIN
            return None

    def publish(
        self,
        operation: str,
        key: str,
        write: Callable[[Draft], None],
        describe: Callable[[], Mapping[str, Any]],
        *,
        replace: bool = False,
    ) -> Artifact:
        """Make an artifact, holding `lock(key)`: `write` fills the draft, `describe` adds to its descriptor.

        With `replace`, an old artifact stays until the new one is whole: readers find one, the other or none, but
        never parts of both.
        """
        target = self._folder(operation, key)
        with self._replacing(target, key) as (draft, old):
            write(draft)
            descriptor = {**describe(), "operation": operation, "key": key, "files": draft.files}
            draft.write(DESCRIPTOR, json.dumps(descriptor, sort_keys=True, indent=1).encode())
            flush(draft.folder)
            if replace and self.holds(operation, key):
                target.rename(old)
            elif target.exists():  # files that lost their descriptor
                self.set_aside(operation, key)
            draft.folder.rename(target)
        return Artifact(target, key, descriptor)

    @contextmanager
    def _replacing(self, target: Path, name: str) -> Iterator[tuple[Draft, Path]]:
        # A draft to move to `target`, and where to move what is there: neither is left, however the block ends.
        draft = Draft(self.root / "drafts" / name)
        folders = draft.folder, draft.folder.with_name(f"{name}.old")
        try:
            for folder in folders:  # of an earlier, killed process
                shutil.rmtree(folder, ignore_errors=True)
            with writing(target):
                draft.folder.mkdir(parents=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                yield draft, folders[1]
                flush(target.parent)
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self, operation: str, key: str) -> None:
        """Take an artifact away: whole, whatever interrupts it. Call it while holding `lock(key)`."""
        gone = self.root / "drafts" / f"{key}.{uuid.uuid4().hex}.gone"
        with writing(gone), suppress(FileNotFoundError):
            gone.parent.mkdir(parents=True, exist_ok=True)
            self._folder(operation, key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def claim(self, name: str, note: Mapping[str, Any]) -> bool:
        """Note in the shared store, where there is one, which keys a run uses, and when; False if it is not reached."""
        return self.url is None or bool(self._ask(lambda remote: remote.claim(name, note)))

    def set_aside(self, operation: str, key: str) -> Path:
        """Move a damaged artifact out of the way, and say where to."""
        target = self.root / "damaged" / f"{operation}-{key}"
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{operation}-{key}-{number}")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._folder(operation, key).rename(target)
        return target

    @contextmanager
    def lock(self, key: str, *, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the right to make an artifact. Raises Busy when another process has it and `wait` is false."""
        folder = self.root / "locks"
        lock = FileLock(folder / f"{key}.lock")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout):
                lock.acquire(timeout=0)
        if not lock.is_locked:
            if not wait:
                raise Busy(f"another process is making artifact {key[:12]}", "wait for it, or run without `--no-wait`")
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def artifacts(self) -> Iterator[Artifact]:
        """Every published artifact that has a readable descriptor, by operation and key."""
        for path in sorted((self.root / "artifacts").glob(f"*/*/{DESCRIPTOR}")):
            try:
                yield self.open(path.parent.parent.name, path.parent.name)
            except DamagedArtifact:
                continue

    def verify(self) -> Iterator[tuple[Path, str | None]]:
        """Check every artifact: its folder, and what is wrong with it or None."""
        for path in sorted(path for path in (self.root / "artifacts").glob("*/*") if path.is_dir()):
            try:
                self.open(path.parent.name, path.name).verify()
            except DamagedArtifact as damage:
                yield path, damage.message
            else:
                yield path, None

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value that is nobody's input, such as the spec last planned in a directory."""
        path = self.root / "memory" / f"{name}.json"
        with writing(path), drafted(path) as draft:
            draft.write_bytes(canonical(value).encode("utf-8", errors="backslashreplace"))  # names may be no text

    def note(self, name: str, value: Any) -> None:
        """Remember what can be found out again; where the store cannot be written it is."""
        with suppress(MissingRequirement):
            self.remember(name, value)

    def recall(self, name: str) -> Any:
        """What was remembered under this name, or None."""
        try:
            return json.loads((self.root / "memory" / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _folder(self, operation: str, key: str) -> Path:
        return self.root / "artifacts" / operation / key


def contents(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Return the sha256 of every file below `folder`, by name; one of the same size and times is not read again."""
    store = Store.default()
    memory = f"contents-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()}"
    known = store.recall(memory) or {}
    names = {path: name_in(folder, path) for path in files}
    marks = {path: [(a := path.stat()).st_size, a.st_mtime_ns, a.st_ctime_ns] for path in names}
    digests = {path: known[name][-1] for path, name in names.items() if known.get(name, [])[:-1] == marks[path]}
    changed = [path for path in names if path not in digests]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter
        digests |= zip(changed, pool.map(file_digest, changed), strict=True)
    if changed:
        entries = {name: [*marks[path], digests[path]] for path, name in names.items()}
        store.note(memory, {**known, **entries})
    return {path: digests[path] for path in sorted(names, key=names.__getitem__)}


def name_in(folder: Path, path: Path) -> str:
    """A path relative to a folder, alike on every system; what is not UTF-8 in it is escaped."""
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
