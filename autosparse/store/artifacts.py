"""Artifacts on disk: `artifacts/<operation>/<key>/` holds files and, written last, their descriptor.

A key names what an artifact was made from; the descriptor names the sha256 of every file in it. An artifact
is drafted beside its place, flushed to disk and moved there in one rename, so it exists whole or not at all,
whenever the process dies. Every read is compared with the descriptor.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from autosparse.errors import Busy, DamagedArtifact, MissingRequirement
from autosparse.store.canonical import canonical, file_digest
from autosparse.store.rows import Rows
from autosparse.store.tensors import dump_tensors, load_tensors, read_tensor

if TYPE_CHECKING:
    from autosparse.lazy import torch

DESCRIPTOR = "artifact.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of one folder: never a way out of it


@dataclass(frozen=True)
class Artifact:
    """A published artifact. Files are read whole, checked, and only then interpreted."""

    folder: Path
    key: str
    descriptor: Mapping[str, Any] = field(repr=False)

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """File name -> {"sha256", "bytes"}."""
        files: Mapping[str, Mapping[str, Any]] = self.descriptor["files"]
        return files

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises DamagedArtifact unless they are the ones that were published."""
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(f"{name} cannot be read ({error.strerror})") from error
        expected = self.files.get(name, {}).get("sha256")
        if hashlib.sha256(data).hexdigest() != expected:
            raise self._damaged(f"{name} is not what was published")
        return data

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of `<name>.safetensors`, on the CPU."""
        try:
            return load_tensors(self.read(f"{name}.safetensors"))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{name}.safetensors: {error}") from error

    def tensor(self, name: str, tensor: str) -> torch.Tensor:
        """One tensor of `<name>.safetensors`, on the CPU, without the memory of the others."""
        self._check(name)
        return read_tensor(self.folder / f"{name}.safetensors", tensor)

    def rows(self, names: Sequence[str], tensor: str) -> Rows:
        """One tensor that is spread over the files `<name>.safetensors`, left on disk and read row by row.

        Every file is checked once, here, without holding it in memory.
        """
        for name in names:
            self._check(name)
        return Rows([self.folder / f"{name}.safetensors" for name in names], tensor)

    def json(self, name: str) -> Any:
        """The value of `<name>.json`."""
        return json.loads(self.read(f"{name}.json"))

    def verify(self) -> None:
        """Read everything. Raises DamagedArtifact at the first wrong byte."""
        for name in self.files:
            self.read(name)

    def _check(self, name: str) -> None:
        # The bytes of `<name>.safetensors`, without holding them.
        try:
            same = file_digest(self.folder / f"{name}.safetensors") == self.files[f"{name}.safetensors"]["sha256"]
        except OSError as error:
            raise self._damaged(f"{name}.safetensors cannot be read ({error.strerror})") from error
        if not same:
            raise self._damaged(f"{name}.safetensors is not what was published")

    def _damaged(self, what: str) -> DamagedArtifact:
        return DamagedArtifact(self.key, f"artifact {self.folder} is damaged: {what}")


class Draft:
    """An artifact in the making: write its files, in any order; the store publishes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a file, through to the disk."""
        try:
            with open(self.folder / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.folder / name, error) from error
        if name != DESCRIPTOR:
            self.files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def remove(self, name: str) -> None:
        """Take back a file that was written."""
        (self.folder / name).unlink()
        del self.files[name]

    def write_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write named tensors as `<name>.safetensors`."""
        self.write(f"{name}.safetensors", dump_tensors(tensors))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON value as `<name>.json`."""
        self.write(f"{name}.json", canonical(value).encode())


class Store:
    """A folder of artifacts that any number of processes may share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> Store:
        """`AUTOSPARSE_CACHE_DIR`, or autosparse's folder in the user's cache directory."""
        import platformdirs

        named = os.environ.get("AUTOSPARSE_CACHE_DIR")
        root = Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("autosparse"))
        if root.exists() and not root.is_dir():
            raise MissingRequirement(f"the cache {root} is not a folder", "name a folder in `AUTOSPARSE_CACHE_DIR`")
        return cls(root)

    def has(self, operation: str, key: str) -> bool:
        """Whether the artifact was published; its bytes are checked when they are read."""
        return (self._place(operation, key) / DESCRIPTOR).is_file()

    def open(self, operation: str, key: str) -> Artifact:
        """A published artifact. Raises DamagedArtifact when its descriptor cannot be trusted."""
        folder = self._place(operation, key)
        try:
            descriptor = json.loads((folder / DESCRIPTOR).read_bytes())
            if descriptor["key"] != key:
                raise ValueError("it describes another artifact")
            for name, about in descriptor["files"].items():
                if not _FILE_NAME.fullmatch(name) or not isinstance(about["sha256"], str):
                    raise ValueError(f"it names an odd file, {name!r}")
                if not isinstance(about["bytes"], int):
                    raise ValueError(f"it does not say how large {name} is")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedArtifact(key, f"artifact {folder} is damaged: {DESCRIPTOR}: {error}") from error
        return Artifact(folder, key, descriptor)

    def publish(
        self,
        operation: str,
        key: str,
        write: Callable[[Draft], None],
        describe: Callable[[], Mapping[str, Any]],
        *,
        replace: bool = False,
    ) -> Artifact:
        """Make an artifact: `write` fills the draft, `describe` tells what else its descriptor records.

        Call it while holding `lock(key)`. Whatever an earlier, killed process left of this draft goes first. With
        `replace`, one that is there stays until the new one is whole, and is then gone: who reads meanwhile finds
        one, the other, or none, and waits for the lock, but never parts of both.
        """
        draft = Draft(self.root / "drafts" / key)
        old = draft.folder.with_name(f"{key}.old")
        for folder in (draft.folder, old):
            shutil.rmtree(folder, ignore_errors=True)
        place = self._place(operation, key)
        try:
            draft.folder.mkdir(parents=True)
            write(draft)
            descriptor = {**describe(), "operation": operation, "key": key, "files": draft.files}
            draft.write(DESCRIPTOR, json.dumps(descriptor, sort_keys=True, indent=1).encode())
            _flush_folder(draft.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            if replace and self.has(operation, key):
                place.rename(old)
            elif place.exists():  # files that lost their descriptor
                self.set_aside(operation, key)
            draft.folder.rename(place)
            _flush_folder(place.parent)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise _unwritable(place, error) from error
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)
        return Artifact(place, key, descriptor)

    def set_aside(self, operation: str, key: str) -> Path:
        """Move a damaged artifact out of the way, and say where to."""
        target = self.root / "damaged" / f"{operation}-{key}"
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{operation}-{key}-{number}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(operation, key).rename(target)
        except OSError as error:
            raise _unwritable(target, error) from error
        return target

    @contextmanager
    def lock(self, key: str, *, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the right to make an artifact. Raises Busy when another process has it and `wait` is false."""
        folder = self.root / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        lock = FileLock(folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise Busy(
                    f"another process is making artifact {key[:12]}", "wait for it, or run without `--no-wait`"
                ) from None
            waiting()
            lock.acquire()
        except OSError as error:
            raise _unwritable(folder, error) from error
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
        place = self.root / "memory" / f"{name}.json"
        draft = place.with_suffix(f".{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(canonical(value).encode("utf-8", errors="backslashreplace"))  # names may be no text
            draft.replace(place)
        except OSError as error:
            raise _unwritable(place, error) from error

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

    def _place(self, operation: str, key: str) -> Path:
        return self.root / "artifacts" / operation / key


def _unwritable(path: Path, error: OSError) -> MissingRequirement:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return MissingRequirement(
        f"{path} cannot be written: {error.strerror or error}",
        "free some space" if full else "name another folder in `AUTOSPARSE_CACHE_DIR`",
    )


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder; its rename is durable without
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
