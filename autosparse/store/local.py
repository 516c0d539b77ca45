"""Artifacts on disk: `artifacts/<operation>/<key>/` holds files and a descriptor with the sha256 of each.

An artifact is drafted elsewhere, flushed and moved here in one rename: atomic, even if the process is killed.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from autosparse.borders import expand, first_line
from autosparse.errors import Busy, DamagedArtifact, MissingExtra, MissingRequirement
from autosparse.regular_file import LARGEST_MEMORY, LARGEST_NOTE, read_regular
from autosparse.store import checkpoint as checkpoints
from autosparse.store.artifact import Artifact, Draft
from autosparse.store.checkpoint import Checkpoint
from autosparse.store.descriptor import DESCRIPTOR, EMPTY, read_descriptor, read_foreign, size_of
from autosparse.store.files import check_room, drafted, flush, writing
from autosparse.store.remote import Remote
from autosparse.store.sealed import seal, unseal

Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)
_AGAIN = 60.0  # seconds until a retry of an unreachable shared store
_GLANCES, _GLANCE = 10, 0.01  # times and seconds to wait for a folder that a writer replaces


class Store:
    """Folder of artifacts that any number of processes may share.

    Connected to a shared store, it is a cache of that store: reads fetch artifacts, and `share` publishes them. An
    unreachable shared store counts as empty; `problem` holds the reason. Methods name an artifact by its operation and
    its key of 64 hex digits.

    Args:
        root: Folder of the store.
        url: Shared store, such as `s3://bucket/prefix` or a folder.

    Examples:
        >>> store = Store(Path("cache"))
        >>> key = "0" * 64
        >>> with store.lock(key):
        ...     artifact = store.publish("irp", key, lambda draft: draft.write_json("result", [1, 2]), dict)
        >>> store.open("irp", key).json("result")
        [1, 2]
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root = root
        self.url = url
        self.problem: MissingRequirement | None = None
        self._remote: Remote | None = None
        self._until = 0.0  # time of the next attempt to reach it

    @classmethod
    def default(cls) -> Store:
        """Return the default store.

        Returns:
            The store in `AUTOSPARSE_CACHE_DIR`, else in autosparse's folder of the user's cache directory.

        Raises:
            MissingRequirement: If the path exists and is not a folder.
        """
        import platformdirs

        named = os.environ.get("AUTOSPARSE_CACHE_DIR")
        root = expand(named).absolute() if named else Path(platformdirs.user_cache_dir("autosparse"))
        if root.exists() and not root.is_dir():
            raise MissingRequirement(f"the cache {root} is not a folder", "name a folder in `AUTOSPARSE_CACHE_DIR`")
        return cls(root)

    def connect(self, url: str | None) -> None:
        """Fetch missing artifacts from a shared store from now on.

        Args:
            url: URL or folder of the shared store; None for none.
        """
        self.url, self._remote, self.problem, self._until = url, None, None, 0.0

    def holds(self, operation: str, key: str) -> bool:
        """Return whether an artifact is in the store's own folder, not only in the shared store.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.

        Returns:
            True if its descriptor exists.
        """
        return (self._folder(operation, key) / DESCRIPTOR).is_file()

    def has(self, operation: str, key: str) -> bool:
        """Return whether an artifact is published here or in the shared store; reading checks its bytes.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.

        Returns:
            True if it is published.
        """
        return self.holds(operation, key) or bool(self._ask(lambda remote: remote.has(operation, key)))

    def present(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """Return the published ones of many artifacts.

        Args:
            named: Operation and key of each artifact.

        Returns:
            Keys of those that `has` confirms.
        """
        present = {key for operation, key in named if self.holds(operation, key)}
        others = [one for one in named if one[1] not in present]
        return present | ((self._ask(lambda remote: remote.present(others)) if others else None) or set())

    def elsewhere(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """Return those of many artifacts that are in the shared store.

        Args:
            named: Operation and key of each artifact.

        Returns:
            Keys of those in the shared store, whether here too or not.
        """
        return self._ask(lambda remote: remote.present(named)) or set()

    def open(self, operation: str, key: str) -> Artifact:
        """Return a published artifact; its files are fetched when read.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.

        Returns:
            The artifact.

        Raises:
            DamagedArtifact: If the descriptor is missing or invalid.
        """
        folder = self._folder(operation, key)
        if self.url and not self.holds(operation, key) and self.has(operation, key):
            there = self.root / "fetched" / key
            artifact = self._ask(lambda remote: remote.look(operation, key, there))
            if artifact is not None:
                return artifact
        try:
            descriptor = read_descriptor(read_regular(folder / DESCRIPTOR, most=LARGEST_NOTE), operation, key)
        except (OSError, DamagedArtifact) as error:
            raise DamagedArtifact(key, f"artifact {folder} is damaged: {DESCRIPTOR}: {error}") from error
        return Artifact(folder, key, descriptor)

    def bring(self, operation: str, key: str) -> Artifact:
        """Return a published artifact after fetching all of its files.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.

        Returns:
            The artifact in the store's own folder.
        """
        if self.url and not self.holds(operation, key) and self.has(operation, key):
            self._ask(lambda remote: self.take(remote, operation, key))
        return self.open(operation, key)

    def share(
        self,
        operation: str,
        key: str,
        *,
        replace: bool = False,
        check: Callable[[Artifact], None] = Artifact.verify,
    ) -> bool:
        """Publish an artifact in the shared store.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.
            replace: Replace an existing one there. By default it replaces the one here, so that all processes use the
                same bytes.
            check: Function that raises DamagedArtifact, called unless the shared store is known to be unreachable; by
                default it compares digests.

        Returns:
            False if there is no shared store or it is unreachable.
        """
        artifact = self.open(operation, key)
        if self._reachable:
            check(artifact)

        def act(remote: Remote) -> bool:
            if not remote.push(artifact, replace=replace):
                try:
                    self.take(remote, operation, key)
                except DamagedArtifact:
                    remote.push(artifact, replace=True)
            return True

        return bool(self._ask(act))

    def take(self, remote: Remote, operation: str, key: str) -> Artifact:
        """Copy an artifact from a shared store here, replacing one with other files.

        Args:
            remote: Shared store.
            operation: Operation of the artifact.
            key: Key of the artifact.

        Returns:
            The copy.

        Raises:
            DamagedArtifact: If a file is missing or differs from its published digest.
        """
        target = self._folder(operation, key)
        with remote.reading(operation, key) as (descriptor, download):
            parsed = read_foreign(descriptor, operation, key)
            with suppress(OSError, DamagedArtifact):
                if (
                    read_descriptor(read_regular(target / DESCRIPTOR, most=LARGEST_NOTE), operation, key)["files"]
                    == parsed["files"]
                ):
                    return Artifact(target, key, parsed)
            remote.check_sizes(parsed["files"].values())
            check_room(self.root, size_of(parsed))
            with self._replacing(target, f"{key}.{uuid.uuid4().hex}") as (draft, old):
                for name, about in parsed["files"].items():
                    try:
                        download(about, draft.folder / name)
                    except FileNotFoundError as error:
                        raise DamagedArtifact(key, f"{Path(error.filename or '').name} is missing") from error
                    flush(draft.folder / name)
                draft.write(DESCRIPTOR, descriptor)
                flush(draft.folder)
                with suppress(FileNotFoundError):
                    target.rename(old)
                try:
                    draft.folder.rename(target)
                except OSError:
                    if not self.holds(operation, key):  # else another process has copied it since
                        raise
            return Artifact(target, key, parsed)

    def distrust(self, key: str) -> None:
        """Ignore an artifact of the shared store from now on: its bytes are as published, but malformed.

        Args:
            key: Key of the artifact, 64 hex digits.
        """
        self._ask(lambda remote: remote.distrust(key))

    @property
    def _reachable(self) -> bool:
        # Whether a shared store exists, as far as known.
        return self.url is not None and time.monotonic() >= self._until

    def _ask(self, act: Callable[[Remote], Result]) -> Result | None:
        # Result from the shared store; None without one, or if it is or recently was unreachable.
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

    def checkpoint(self, key: str, conditions: Any) -> Checkpoint:
        """Return the checkpoint of an unfinished step.

        Args:
            key: Key of its artifact, 64 hex digits.
            conditions: JSON value under which the checkpoint is valid.

        Returns:
            The checkpoint, whether saved before or not.
        """
        return Checkpoint(self._checkpoint(key), conditions, every=checkpoints.EVERY)

    def has_checkpoint(self, key: str) -> bool:
        """Return whether an unfinished step left a checkpoint.

        Args:
            key: Key of its artifact, 64 hex digits.

        Returns:
            True if the file exists.
        """
        return self._checkpoint(key).is_file()

    def _checkpoint(self, key: str) -> Path:
        return self.root / "checkpoints" / f"{key}.checkpoint"

    def publish(
        self,
        operation: str,
        key: str,
        write: Callable[[Draft], None],
        describe: Callable[[], Mapping[str, Any]],
        *,
        replace: bool = False,
    ) -> Artifact:
        """Build an artifact and publish it atomically. Call it while holding `lock(key)`.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.
            write: Function that writes the files of a draft.
            describe: Function that returns further fields of the descriptor, after `write`; its provenance is empty
                without them.
            replace: Replace an old artifact: readers see one, the other or none, but never parts of both.

        Returns:
            The published artifact.
        """
        target = self._folder(operation, key)
        with self._replacing(target, key) as (draft, old):
            write(draft)
            descriptor = {**EMPTY, **describe(), "operation": operation, "key": key, "files": draft.files}
            draft.write(DESCRIPTOR, seal(descriptor))
            flush(draft.folder)
            if replace and self.holds(operation, key):
                target.rename(old)
            elif target.exists():  # files that lost their descriptor
                self.set_aside(operation, key)
            draft.folder.rename(target)
        return Artifact(target, key, descriptor)

    @contextmanager
    def _replacing(self, target: Path, name: str) -> Iterator[tuple[Draft, Path]]:
        # Yield a draft to move to `target`, and a path for the old files: the block removes both at its end.
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
        """Remove an artifact atomically. Call it while holding `lock(key)`.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.
        """
        gone = self.root / "drafts" / f"{key}.{uuid.uuid4().hex}.gone"
        with writing(gone), suppress(FileNotFoundError):
            gone.parent.mkdir(parents=True, exist_ok=True)
            self._folder(operation, key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def claim(self, name: str, note: Mapping[str, Any]) -> bool:
        """Record a run's keys and time in the shared store, if any.

        Args:
            name: Name of the record.
            note: JSON value of the record.

        Returns:
            False if the shared store is unreachable.
        """
        return self.url is None or bool(self._ask(lambda remote: remote.claim(name, note)))

    def set_aside(self, operation: str, key: str) -> Path:
        """Move a damaged artifact to the folder `damaged`.

        Args:
            operation: Operation of the artifact, such as `irp`.
            key: Key of the artifact, 64 hex digits.

        Returns:
            Its new path.
        """
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
        """Hold the right to build an artifact for the duration of a `with` block.

        Args:
            key: Key of the artifact.
            wait: Wait for another process that holds it.
            waiting: Function that is called once before a wait.

        Returns:
            The context.

        Raises:
            Busy: If another process holds it and `wait` is false.
        """
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
        """Yield every published artifact that has a readable descriptor.

        Yields:
            Artifacts of the store's own folder, by operation and key.
        """
        for path in sorted((self.root / "artifacts").glob(f"*/*/{DESCRIPTOR}")):
            try:
                yield self.open(path.parent.parent.name, path.parent.name)
            except DamagedArtifact:
                continue

    def verify(self, check: Callable[[Artifact], None] = Artifact.verify) -> Iterator[tuple[Path, str | None]]:
        """Check every byte of every artifact.

        Args:
            check: Function that raises DamagedArtifact; by default it compares digests.

        Yields:
            Folder of an artifact, and its problem or None.
        """
        for path in sorted(path for path in (self.root / "artifacts").glob("*/*") if path.is_dir()):
            problem = self._problem(path, check)
            if path.is_dir():
                yield path, problem

    def _problem(self, path: Path, check: Callable[[Artifact], None]) -> str | None:
        # A verdict counts if no writer has replaced the artifact since; between its two renames there is none.
        absent = 0
        while absent < _GLANCES:
            before = _identity(path)
            try:
                check(self.open(path.parent.name, path.name))
                return None
            except DamagedArtifact as damage:
                after = _identity(path)
                if before is not None and before == after:
                    return damage.message
                if after is None:
                    absent += 1
                    time.sleep(_GLANCE)
        return None

    def verify_memory(self) -> Iterator[tuple[Path, str | None]]:
        """Check every remembered value, the index among them.

        Yields:
            File of a value, and its problem or None.
        """
        for path in sorted((self.root / "memory").glob("*.json")):
            problem = None
            try:
                read_memory(path)
            except FileNotFoundError:  # removed since it was listed
                continue
            except (OSError, ValueError) as error:
                problem = f"{path} is damaged: {error}"
            yield path, problem

    def remember(self, name: str, value: Any) -> None:
        """Store a small JSON value that is no step's input, such as the spec last planned in a directory.

        Args:
            name: Name of the value.
            value: JSON value.

        Raises:
            MissingRequirement: If the store is not writable.
        """
        path = self.root / "memory" / f"{name}.json"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with drafted(path) as draft:
                draft.write_bytes(seal({"name": name, "value": value}, compact=True))

    def note(self, name: str, value: Any) -> None:
        """Remember a value that can be recomputed; ignore a store that is not writable.

        Args:
            name: Name of the value.
            value: JSON value.
        """
        with suppress(MissingRequirement):
            self.remember(name, value)

    def recall(self, name: str, form: Any = Any) -> Any:
        """Return a remembered value; log a warning for one that is damaged.

        Args:
            name: Name of the value.
            form: Type that pydantic validates and returns, such as a frozen dataclass.

        Returns:
            The value, or None if there is none, or if it is damaged or of another form.
        """
        path = self.root / "memory" / f"{name}.json"
        try:
            return TypeAdapter(form).validate_python(read_memory(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            _LOG.warning("%s is damaged: %s; it is ignored and computed again", path, first_line(error))
            return None

    def _folder(self, operation: str, key: str) -> Path:
        return self.root / "artifacts" / operation / key


def read_memory(path: Path) -> Any:
    """Return the value in a file of a store's memory.

    Args:
        path: File of the value.

    Returns:
        The JSON value.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be read.
    """
    note = unseal(read_regular(path, most=LARGEST_MEMORY))
    if note.keys() != {"name", "value"} or f"{note['name']}.json" != path.name:
        raise ValueError("it holds a value of another name")
    return note["value"]


def _identity(folder: Path) -> tuple[int, int] | None:
    # Differs after a replacement; None without a folder.
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns
