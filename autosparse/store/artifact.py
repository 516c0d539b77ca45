"""Artifact: its files with verified digests, its descriptor, and drafts."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from autosparse.borders import is_of_machine
from autosparse.errors import AutosparseError, DamagedArtifact
from autosparse.lazy_torch import numpy, torch
from autosparse.regular_file import read_regular
from autosparse.store.descriptor import DESCRIPTOR, size_of
from autosparse.store.files import canonical, drafted, file_digest, write_through, writing
from autosparse.store.safetensors import ShardedRows, dump_tensors, load_tensors, read_array, read_tensor

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Artifact:
    """Published artifact; files are read whole, checked, and only then interpreted.

    Attributes:
        folder: Folder with the files.
        key: Key of the artifact, 64 hex digits.
        descriptor: Content of `artifact.json`: operation, key, files, provenance.
        fetch: Function that writes the file of {"sha256", "bytes"} to a path in `folder` and checks it, for an artifact
            in a shared store.
    """

    folder: Path
    key: str
    descriptor: Mapping[str, Any] = field(repr=False)
    fetch: Callable[[Mapping[str, Any], Path], None] | None = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """Files by name: {"sha256", "bytes"}."""
        files: Mapping[str, Mapping[str, Any]] = self.descriptor["files"]
        return files

    @property
    def size(self) -> int:
        """Size of all its files in bytes."""
        return size_of(self.descriptor)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Args:
            name: Name of the file.

        Returns:
            Its published bytes.

        Raises:
            DamagedArtifact: If the file is missing or differs from its published digest.
        """
        try:
            data = read_regular(self._path(name), most=self.files.get(name, {}).get("bytes", 0))
        except OSError as error:
            is_larger = error.errno == errno.EFBIG
            problem = "differs from the published file" if is_larger else f"cannot be read ({error.strerror})"
            raise self._damaged(f"{name} {problem}") from error
        expected = self.files.get(name, {}).get("sha256")
        if hashlib.sha256(data).hexdigest() != expected:
            raise self._damaged(f"{name} differs from the published file")
        return data

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of `<name>.safetensors`.

        Args:
            name: Name of the file without its suffix.

        Returns:
            Tensors by name, on the CPU.
        """
        data = self.read(f"{name}.safetensors")
        return self._parsed(f"{name}.safetensors", lambda: load_tensors(data))

    def tensor(self, name: str, tensor: str) -> torch.Tensor:
        """Return one tensor of `<name>.safetensors` without loading the others.

        Args:
            name: Name of the file without its suffix.
            tensor: Name of the tensor.

        Returns:
            The tensor, on the CPU.
        """
        path = self._intact(f"{name}.safetensors")
        return self._parsed(path.name, lambda: read_tensor(path, tensor))

    def array(self, name: str, tensor: str) -> numpy.ndarray[Any, Any]:
        """Return one tensor of `<name>.safetensors` as an array, without importing torch.

        Args:
            name: Name of the file without its suffix.
            tensor: Name of the tensor.

        Returns:
            Its values, of a type that NumPy has.
        """
        path = self._intact(f"{name}.safetensors")
        return self._parsed(path.name, lambda: read_array(path, tensor))

    def rows(self, names: Sequence[str], tensor: str) -> ShardedRows:
        """Return a tensor sharded over the files `<name>.safetensors`, checked here and read from disk row by row.

        Args:
            names: Names of the files without their suffix, in the order of the rows.
            tensor: Name of the tensor in each file.

        Returns:
            The rows of all files.
        """
        files = [self._intact(f"{name}.safetensors") for name in names]
        return self._parsed(f"{files[0].name}: `{tensor}` cannot be read", lambda: ShardedRows(files, tensor))

    def json(self, name: str) -> Any:
        """Return the value of `<name>.json`.

        Args:
            name: Name of the file without its suffix.

        Returns:
            The JSON value.
        """
        data = self.read(f"{name}.json")
        return self._parsed(f"{name}.json", lambda: json.loads(data))

    def _parsed(self, what: str, parse: Callable[[], Parsed]) -> Parsed:
        try:
            return parse()
        except (AutosparseError, OSError):
            raise
        except Exception as error:  # whatever a parser raises
            if is_of_machine(error):
                raise
            raise self.malformed(f"{what}: {error}") from error

    def malformed(self, problem: str) -> DamagedArtifact:
        """Return the error for intact files whose content is malformed.

        Args:
            problem: Deviation from the form of the step's result, in one sentence.

        Returns:
            The error, to be raised.
        """
        error = self._damaged(problem)
        error.created = str(self.descriptor.get("created"))
        return error

    def verify(self) -> None:
        """Read and check all files.

        Raises:
            DamagedArtifact: If a file is missing or differs from its published digest.
        """
        for name in self.files:
            self.read(name)

    def _intact(self, name: str) -> Path:
        # Path of a file, checked without loading it into memory.
        path = self._path(name)
        try:
            same = file_digest(path) == self.files.get(name, {}).get("sha256")
        except OSError as error:
            raise self._damaged(f"{name} cannot be read ({error.strerror})") from error
        if not same:
            raise self._damaged(f"{name} differs from the published file")
        return path

    def _path(self, name: str) -> Path:
        path, about = self.folder / name, self.files.get(name)
        if about is None:
            raise self.malformed(f"it has no {name}")
        if self.fetch and not (path.is_file() and file_digest(path) == about["sha256"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            with drafted(path) as draft:
                self.fetch(about, draft)
        return path

    def _damaged(self, what: str) -> DamagedArtifact:
        return DamagedArtifact(self.key, f"artifact {self.folder} is damaged: {what}")


class Draft:
    """Artifact in progress: write its files in any order; the store publishes it.

    Args:
        folder: Folder of the draft.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a file and flush it to disk.

        Args:
            name: Name of the file.
            data: Its content.
        """
        with writing(self.folder / name):
            write_through(self.folder / name, data)
        if name != DESCRIPTOR:
            self.files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def remove(self, name: str) -> None:
        """Remove a written file.

        Args:
            name: Name of the file.
        """
        (self.folder / name).unlink()
        del self.files[name]

    def write_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write named tensors as `<name>.safetensors`.

        Args:
            name: Name of the file without its suffix.
            tensors: Tensors by name, on any device.
        """
        self.write(f"{name}.safetensors", dump_tensors(tensors))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON value as `<name>.json`.

        Args:
            name: Name of the file without its suffix.
            value: JSON value.
        """
        self.write(f"{name}.json", canonical(value).encode())
