"""A zip file of artifacts is judged by its own directory, before anything in it is read."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from autosparse.errors import UsageError
from autosparse.store.archive import check_archive

FILE = f"files/ab/{'ab' * 32}"


def link(archive: zipfile.ZipFile) -> None:
    """Add a symbolic link, as `zip --symlinks` writes it."""
    info = zipfile.ZipInfo(FILE)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    """Add two files of one name."""
    archive.writestr(FILE, b"one")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(FILE, b"two")


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        (link, "holds a link or a device"),
        (twice, "two files of one name"),
        (lambda archive: archive.writestr("../x", b""), "a path out of it"),
        (lambda archive: archive.writestr("/etc/x", b""), "a path out of it"),
        (lambda archive: archive.writestr(FILE, b"1", zipfile.ZIP_BZIP2), "neither stored nor deflated"),
    ],
)
def test_a_zip_with_files_that_no_store_holds_is_refused(
    tmp_path: Path, fill: Callable[[zipfile.ZipFile], None], text: str
) -> None:
    """One line names the zip and the file in it."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)

    with pytest.raises(UsageError, match=text):
        check_archive(tmp_path / "a.zip")


def test_a_zip_that_expands_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros may compress well, but not without limit."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FILE, bytes(10**6))
    check_archive(tmp_path / "a.zip")
    monkeypatch.setattr("autosparse.store.archive._FREE", 10**5)

    with pytest.raises(UsageError, match=r"expands to 1 MB, above 500 times its size"):
        check_archive(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    """The flag of the zip's directory decides."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(FILE, b"1")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)

    with pytest.raises(UsageError, match="holds an encrypted file"):
        check_archive(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_zip(tmp_path: Path) -> None:
    """It is refused at once."""
    os.mkfifo(tmp_path / "a.zip")

    with pytest.raises(UsageError, match="named pipe"):
        check_archive(tmp_path / "a.zip")
