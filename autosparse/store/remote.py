"""Artifacts shared by several machines: a bucket, a shared folder, any URL of fsspec.

`files/<sha256>` hold bytes under their own digest, compared on every fetch, which stops at the size in the descriptor.
The descriptor `artifacts/<operation>/<key>.json` is written last, by a write that succeeds for one writer only.
"""

from __future__ import annotations

import glob
import hashlib
import math
import os
import posixpath
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from autosparse.borders import expand, first_line
from autosparse.errors import DamagedArtifact, MissingExtra, MissingRequirement, UsageError
from autosparse.regular_file import LARGEST_NOTE, NotRegularError, open_regular, read_regular
from autosparse.store.archive import check_archive
from autosparse.store.artifact import Artifact
from autosparse.store.descriptor import DESCRIPTOR, descriptor_path, file_path, read_descriptor, read_foreign
from autosparse.store.files import check_room, drafted, link_new, write_through
from autosparse.store.sealed import seal, unseal

Result = TypeVar("Result")
Named = tuple[str, str]  # operation and key of an artifact
Download = Callable[[Mapping[str, Any], Path], None]  # writes the file of {"sha256", "bytes"} to a path, and checks it

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::.*://)")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_ATTEMPTS, _PAUSE = 3, 0.3  # attempts; seconds before the second one, doubled for each next one
_AT_ONCE = 16  # parallel requests
_PART = 2**20  # bytes read at a time


class Remote:
    """Store shared by several machines. Raises MissingRequirement after three failed attempts to reach it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._known: set[str] = set()  # keys in the store: an artifact seen once is not looked up again
        self._bad: set[str] = set()  # keys with damaged files
        self._lost: set[str] = set()  # keys with a file that could not be fetched
        self._descriptors: dict[str, bytes] = {}
        self._files, self._root = _opened(url)
        protocols = self._files.protocol
        self._local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)

    def present(self, named: Iterable[Named]) -> set[str]:
        """Return the keys of the artifacts in the store; requests each by name, because listings may be outdated."""
        named = list(named)
        asked = [one for one in named if one[1] not in {*self._known, *self._bad, *self._lost}]
        with self._reached("read"):
            infos = self._at_once(self._info, [self._descriptor(*one) for one in asked])
        self._known |= {key for (_, key), info in zip(asked, infos, strict=True) if info is not None}
        return {key for _, key in named if key in self._known - self._lost}

    def has(self, operation: str, key: str) -> bool:
        """Return whether the artifact is in the store."""
        return key in self.present([(operation, key)])

    @contextmanager
    def reading(self, operation: str, key: str) -> Iterator[tuple[bytes, Download]]:
        """Yield a descriptor and a downloader; an artifact that the block finds damaged is ignored from then on."""
        with self._reached("read"), self._judged(key):
            yield self._read(operation, key), self._download

    def look(self, operation: str, key: str, folder: Path) -> Artifact:
        """Return an artifact that fetches its files on reading, into a folder. Raises DamagedArtifact."""

        def fetch(about: Mapping[str, Any], path: Path) -> None:
            try:
                with self.reading(operation, key) as (_, download):
                    self.check_sizes([about])
                    check_room(path.parent, about["bytes"])
                    download(about, path)
            except MissingRequirement as problem:  # the reader continues, and rebuilds the artifact
                self._lost.add(key)
                raise DamagedArtifact(key, problem.message) from problem

        with self.reading(operation, key) as (descriptor, _):
            return Artifact(folder, key, read_foreign(descriptor, operation, key), fetch)

    def distrust(self, key: str) -> None:
        """Ignore an artifact from now on, until it is published again."""
        self._known.discard(key)
        self._bad.add(key)
        self._descriptors.pop(key, None)

    def push(self, artifact: Artifact, *, replace: bool = False) -> bool:
        """Publish an artifact; return False if one exists, which stays unless it is damaged or `replace`d."""
        operation, data = (
            artifact.descriptor["operation"],
            read_regular(artifact.folder / DESCRIPTOR, most=LARGEST_NOTE),
        )
        path = self._descriptor(operation, artifact.key)
        with self._reached("written"):
            for name, about in artifact.files.items():
                self._upload(artifact.folder / name, about, force=artifact.key in self._bad)
            made = self._patiently(lambda: self._create(path, data, replace=replace))
            if not made and not self._is_whole(operation, artifact.key):
                made = self._patiently(lambda: self._create(path, data, replace=True))
            if made:  # an artifact that replaced it since stays
                made = self._content(path) == data
        self._bad.discard(artifact.key)
        self._lost.discard(artifact.key)
        self._known.add(artifact.key)
        self._descriptors.pop(artifact.key, None)
        return made

    def artifacts(self) -> Iterator[tuple[Named, dict[str, Any]]]:
        """Yield every listed artifact: operation and key, and the descriptor."""
        yield from ((named, about) for named, about, _ in self.descriptors() if about is not None)

    def descriptors(self) -> Iterator[tuple[Named, dict[str, Any] | None, float]]:
        """Yield operation and key of every descriptor, its content, and the write time of one without valid content."""
        for path in self._listed("artifacts/*/*.json"):
            operation, name = path.split("/")[-2:]
            key, about, written = name.removesuffix(".json"), None, 0.0
            with self._reached("read"), suppress(FileNotFoundError):
                try:
                    about = read_foreign(self._content(path), operation, key)
                except DamagedArtifact:
                    written = self._written(path)
                yield (operation, key), about, written

    def claim(self, name: str, note: Mapping[str, Any]) -> bool:
        """Record the keys that a run uses, and the time: garbage collection keeps them."""
        path, data = f"{self._root}/uses/{name}.json", seal(note)
        with self._reached("written"):
            return self._patiently(lambda: self._create(path, data, replace=True))

    def claims(self) -> Iterator[tuple[str, float, Callable[[], dict[str, Any]]]]:
        """Yield the runs' records: path, write time, and a reader, which raises DamagedArtifact."""
        for path in self._listed("uses/*.json"):
            with self._reached("read"), suppress(FileNotFoundError):
                yield path, self._written(path), partial(self._claim, path)

    def _claim(self, path: str) -> dict[str, Any]:
        with self._reached("read"), suppress(FileNotFoundError):
            try:
                return unseal(self._content(path))
            except (ValueError, PermissionError) as error:
                raise DamagedArtifact("", first_line(error)) from error
        raise FileNotFoundError(path)

    def _written(self, path: str) -> float:
        # Write time of a file, infinite if unknown.
        written = _written(self._patiently(lambda: self._info(path)) or {})
        return math.inf if written is None else written

    def remove(self, operation: str, key: str) -> None:
        """Remove a descriptor, and with it the artifact; `sweep` removes its files."""
        with self._reached("written"), suppress(FileNotFoundError):
            self._files.rm_file(self._descriptor(operation, key))
        self._known.discard(key)

    def sweep(self, kept: Collection[str], before: float, *, ended: float = 0.0) -> None:
        """Remove files that are not among these digests, and drafts, written before that time (seconds since 1970).

        Records of runs go if they were written before `ended`.
        """
        with self._reached("written"):
            for folder in ("files", "artifacts", "uses"):
                for path, about in self._files.find(f"{self._root}/{folder}", detail=True).items():
                    name, written = path.rpartition("/")[2], _written(about)
                    is_leftover = name not in kept if folder == "files" else name.startswith(".")
                    until = ended if folder == "uses" and not is_leftover else before
                    if (is_leftover or folder == "uses") and written is not None and written < until:
                        with suppress(FileNotFoundError):
                            self._files.rm_file(path)

    def check_sizes(self, files: Iterable[Mapping[str, Any]]) -> None:
        """Compare files with the sizes in their descriptor, before any is read. Raises DamagedArtifact."""
        files = list(files)
        for about, size in zip(files, self._sizes(files), strict=True):
            if size is not None and size != about["bytes"]:
                raise DamagedArtifact("", f"a file has {size:,} bytes, its descriptor says {about['bytes']:,}")

    def _listed(self, pattern: str) -> Sequence[str]:
        with self._reached("read"):
            self._files.invalidate_cache()
            paths: Sequence[str] = self._patiently(lambda: self._files.glob(f"{glob.escape(self._root)}/{pattern}"))
            return paths

    def _content(self, path: str) -> bytes:
        # Of a descriptor or a run's record.
        return b"".join(self._patiently(lambda: [*self._parts(path, LARGEST_NOTE)]))

    def _parts(self, path: str, most: int) -> Iterator[bytes]:
        # Parts of a file, read up to `most` bytes, whatever the file holds.
        try:
            with open_regular(path) if self._local else self._files.open(path, "rb") as file:
                while part := file.read(min(_PART, most + 1)):
                    most -= len(part)
                    if most < 0:
                        raise DamagedArtifact("", f"{posixpath.basename(path)} is larger than it may be")
                    yield part
        except (NotRegularError, IsADirectoryError) as error:
            raise DamagedArtifact("", f"{posixpath.basename(path)}: {error.strerror}") from error

    def _read(self, operation: str, key: str) -> bytes:
        # The descriptor, read once per process.
        if key not in self._descriptors:
            path = self._descriptor(operation, key)
            self._descriptors[key] = self._content(path)
        return self._descriptors[key]

    def _is_whole(self, operation: str, key: str) -> bool:
        # Whether the stored descriptor is readable and its files have the sizes in it.
        if key in self._bad:
            return False
        try:
            descriptor = read_descriptor(self._content(self._descriptor(operation, key)), operation, key)
            files = list(descriptor["files"].values())
            return self._sizes(files) == [file["bytes"] for file in files]
        except (FileNotFoundError, DamagedArtifact):
            return False

    def _upload(self, path: Path, about: Mapping[str, Any], *, force: bool) -> None:
        target, size = self._file(about["sha256"]), about["bytes"]

        def attempt() -> None:
            if not force and self._size(target) == size:
                return
            self._write(target, lambda draft: self._files.put_file(str(path), draft), os.replace)
            if self._size(target) != size:
                raise OSError(f"{target} has another size than was written")

        self._patiently(attempt)

    def _download(self, about: Mapping[str, Any], path: Path) -> None:
        def attempt() -> str:
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for part in self._parts(self._file(about["sha256"]), about["bytes"]):
                    digest.update(part)
                    file.write(part)
            return digest.hexdigest()

        if self._patiently(attempt) != about["sha256"]:
            raise DamagedArtifact("", f"{path.name} differs from the published file")

    def _create(self, path: str, data: bytes, *, replace: bool) -> bool:
        # An object store writes objects atomically and, on request, only new ones; a folder needs a hard link for that.
        def write(target: str) -> None:
            if self._local:
                write_through(Path(target), data)
            else:
                self._files.pipe_file(target, data, mode="overwrite" if replace else "create")

        if self._local:  # here, so that a file in the way of the folder is an error, not an artifact that exists
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._write(path, write, os.replace if replace else link_new)
        except FileExistsError:
            return False
        return True

    def _write(self, path: str, write: Callable[[str], object], move: Callable[[Path, Path], object]) -> None:
        if self._local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with drafted(Path(path), move) as draft:
                write(str(draft))
            return
        try:
            write(path)
        except FileNotFoundError:  # buckets have no folders, other machines' disks do
            self._files.makedirs(posixpath.dirname(path), exist_ok=True)
            write(path)

    def _size(self, path: str) -> int | None:
        size = (self._info(path) or {}).get("size")  # some servers report none
        return None if size is None else int(size)

    def _sizes(self, files: Iterable[Mapping[str, Any]]) -> list[int | None]:
        return self._at_once(self._size, [self._file(about["sha256"]) for about in files])

    def _at_once(self, ask: Callable[[str], Result], paths: Iterable[str]) -> list[Result]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda path: self._patiently(lambda: ask(path)), paths))

    def _info(self, path: str) -> Any:
        self._files.invalidate_cache(posixpath.dirname(path))
        try:
            return self._files.info(path)
        except FileNotFoundError:
            return None

    def _patiently(self, act: Callable[[], Result]) -> Result:
        for attempt in range(_ATTEMPTS):
            try:
                return act()
            except (FileNotFoundError, FileExistsError, DamagedArtifact):
                raise
            except Exception:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError

    @contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        # Ignore an artifact from now on if it is damaged or missing.
        try:
            yield
        except (FileNotFoundError, DamagedArtifact) as error:
            self.distrust(key)
            state = f"is damaged: {error.message}" if isinstance(error, DamagedArtifact) else "is gone"
            raise DamagedArtifact(key, f"artifact {key[:12]} of the shared store {self.url} {state}") from error

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        # Libraries of object stores raise their own errors: any of them counts as unreachable.
        try:
            yield
        except (DamagedArtifact, MissingRequirement):
            raise
        except Exception as error:
            message = str(error) or type(error).__name__
            raise MissingRequirement(
                f"the shared store {self.url} cannot be {what}: {' '.join(message.split())}",
                "until it can be reached, its artifacts are made again or wait for the next run",
            ) from error

    def _descriptor(self, operation: str, key: str) -> str:
        return f"{self._root}/{descriptor_path(operation, key)}"

    def _file(self, sha256: str) -> str:
        return f"{self._root}/{file_path(sha256)}"


def _opened(url: str) -> tuple[Any, str]:
    from fsspec import filesystem
    from fsspec.core import url_to_fs

    if not _URL.match(url):  # a path, which may contain `::`
        path = expand(url).absolute()
        if path.suffix == ".zip" and path.is_file():
            check_archive(path)
            return filesystem("zip", fo=str(path)), ""
        return filesystem("file"), str(path).rstrip("/")
    try:
        files, root = url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(url.partition("://")[0])
        hint = f"run `pip install 'autosparse[{extra}]'`" if extra else f"install what fsspec needs: {error}"
        raise MissingExtra(f"the shared store {url} needs a library that is not installed", hint) from error
    except ValueError as error:
        raise UsageError(f"the shared store {url} cannot be opened: {error}", "see fsspec for what there is") from error
    except Exception as error:
        raise MissingRequirement(f"the shared store {url} cannot be opened: {error}") from error
    return files, str(root).rstrip("/")


def _written(about: Mapping[str, Any]) -> float | None:
    # Write time of a file in the forms of several file systems, or None.
    value = next((about[name] for name in ("mtime", "LastModified", "updated", "created") if name in about), None)
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value).timestamp()
    return float(value) if isinstance(value, int | float) else None
