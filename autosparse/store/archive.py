"""Zip files of artifacts: a shared store in one file, checked by its own directory before anything in it is read."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from autosparse.errors import UsageError
from autosparse.regular_file import LARGEST_NOTE, open_regular, read_regular
from autosparse.store.artifact import Artifact
from autosparse.store.descriptor import DESCRIPTOR, descriptor_path, file_path
from autosparse.store.files import flush
from autosparse.text import size

_MOST_FILES = 1_000_000
_FREE, _HIGHEST_RATIO = 256 * 2**20, 500
"""Bytes that any file may expand to, and the expansion beyond: masks of 99.9 % zeros reach 250, bombs 1,030."""


def write_archive(path: Path, artifacts: Iterable[Artifact], page: str) -> None:
    """Write artifacts, of which every byte is verified, and a page for readers. Raises DamagedArtifact."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", page)
        for artifact in artifacts:
            for name, about in artifact.files.items():
                if (within := file_path(about["sha256"])) not in archive.NameToInfo:
                    archive.writestr(within, artifact.read(name))
            described = read_regular(artifact.folder / DESCRIPTOR, most=LARGEST_NOTE)
            archive.writestr(descriptor_path(artifact.descriptor["operation"], artifact.key), described)
    flush(path)


def check_archive(path: Path) -> None:
    """Raise UsageError for a file that is no zip, or whose directory lists files that no store holds."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            problem = next(_problems(archive.infolist(), path.stat().st_size), None)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        detail = getattr(error, "strerror", None)
        problem = f"cannot be read: {detail}" if detail else "is not a zip file"
    if problem:
        raise UsageError(f"{path} {problem}", "`autosparse cache export` writes one")


def _problems(listed: list[zipfile.ZipInfo], stored: int) -> Iterator[str]:
    if len(listed) > _MOST_FILES:
        yield f"lists {len(listed):,} files, above {_MOST_FILES:,}"
    if len({one.filename for one in listed}) < len(listed):
        yield "lists two files of one name"
    for one in listed:
        if one.flag_bits & 1:
            yield f"holds an encrypted file, {one.filename!r}"
        if stat.S_IFMT(one.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"holds a link or a device, {one.filename!r}"
        if one.filename.startswith(("/", "\\")) or ".." in one.filename.replace("\\", "/").split("/"):
            yield f"holds a path out of it, {one.filename!r}"
        if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"compresses {one.filename!r} in a way that is neither stored nor deflated"
    total = sum(one.file_size for one in listed)
    if total > max(_FREE, _HIGHEST_RATIO * stored):
        yield f"of {size(stored)} expands to {size(total)}, above {_HIGHEST_RATIO} times its size"
