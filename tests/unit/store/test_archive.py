"""A zip file of artifacts is judged by its own directory, before anything in it is read."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import DamagedArtifact, UsageError
from autosparse.store import Draft, Remote, Store, key_of
from autosparse.store.archive import check_archive, write_archive

FILE = f"files/ab/{'ab' * 32}"


def test_a_zip_of_artifacts_is_a_shared_store(tmp_path: Path) -> None:
    """It holds a file of two artifacts once; a damaged artifact ends the writing."""
    store, path = Store(tmp_path / "cache"), tmp_path / "a.zip"

    def write(draft: Draft) -> None:
        draft.write("same.bin", b"same")

    for seed in (1, 2):
        made_from: dict[str, Any] = {"version": 1, "options": {"seed": seed}, "inputs": {}}
        store.publish("mask", key_of("mask", **made_from), write, partial(dict, made_from))
    write_archive(path, store.artifacts(), "page")
    names, published = zipfile.ZipFile(path).namelist(), sorted(key for (_, key), _ in Remote(str(path)).artifacts())
    pulled = [Store(tmp_path / "other").take(Remote(str(path)), "mask", key).read("same.bin") for key in published]
    (store.root / "artifacts" / "mask" / published[0] / "same.bin").write_bytes(b"lost")

    assert sorted(one.key for one in store.artifacts()) == published
    assert (4, [b"same"] * 2) == (len(names), pulled)
    with pytest.raises(DamagedArtifact, match=r"same\.bin differs"):
        write_archive(tmp_path / "b.zip", store.artifacts(), "page")


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
