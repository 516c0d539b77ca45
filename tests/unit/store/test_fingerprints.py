"""Digests of files, and the memory of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from autosparse.store import Store, contents, file_digest, name_in
from tests.sealing import flips, replace_text


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(folder))
    return folder


def write(folder: Path, *texts: str) -> list[Path]:
    """Files a, b/b, ... with these texts."""
    paths = []
    for name, text in zip(("a", "b/b", "c/c/c"), texts, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        paths.append(folder / name)
    return paths


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return digests by names in the folder."""
    return {name_in(folder, path): result for path, result in contents(folder, files).items()}


def sha(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_names_and_digests(tmp_path: Path) -> None:
    """Every file by its name in the folder, in order, with the sha256 of its bytes."""
    paths = write(tmp_path, "one", "two", "")
    expected = {"a": sha("one"), "b/b": sha("two"), "c/c/c": sha("")}

    assert expected == digests(tmp_path, reversed(paths)) == digests(tmp_path, paths)
    assert list(expected) == list(digests(tmp_path, reversed(paths)))
    assert {} == digests(tmp_path, [])
    assert sha("one") == file_digest(paths[0])


def test_nothing_is_read_twice(tmp_path: Path, cache: Path) -> None:
    """Files whose size and times are as they were keep the digest that is remembered; a changed one is read."""
    paths = write(tmp_path, "one", "two")
    digests(tmp_path, paths)
    remembered = 64 * "0"
    (memory,) = (cache / "memory").iterdir()
    replace_text(memory, sha("one"), remembered)

    assert {"a": remembered, "b/b": sha("two")} == digests(tmp_path, paths)
    paths[1].write_text("three")
    assert {"a": remembered, "b/b": sha("three")} == digests(tmp_path, paths)
    assert {"a": remembered} == digests(tmp_path, paths[:1])
    paths[0].write_text("four")
    assert {"a": sha("four")} == digests(tmp_path, paths[:1])


def test_a_file_that_brings_its_time_along(tmp_path: Path) -> None:
    """A file of the same size that is moved to the place of another, with its time, is seen."""
    (path,) = write(tmp_path, "one")
    before = digests(tmp_path, [path])
    about = path.stat()
    (tmp_path / "other").write_text("two")
    os.utime(tmp_path / "other", ns=(about.st_atime_ns, about.st_mtime_ns))
    (tmp_path / "other").replace(path)

    assert about.st_mtime_ns == path.stat().st_mtime_ns
    assert {"a": sha("one")} == before
    assert {"a": sha("two")} == digests(tmp_path, [path])


def test_a_touched_file_is_the_same(tmp_path: Path) -> None:
    """Another time alone changes nothing."""
    (path,) = write(tmp_path, "one")
    before = digests(tmp_path, [path])
    os.utime(path, (1, 1))

    assert before == digests(tmp_path, [path])


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place to remember them, files are read each time."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    paths = write(tmp_path / "set", "one")

    assert {"a": sha("one")} == digests(tmp_path / "set", paths) == digests(tmp_path / "set", paths)


def test_a_damaged_memory_is_forgotten(tmp_path: Path, cache: Path) -> None:
    """The memory of files is not an input: if it is unreadable, the files are read."""
    paths = write(tmp_path, "one")
    digests(tmp_path, paths)
    for file in (cache / "memory").iterdir():
        file.write_text("{")

    assert {"a": sha("one")} == digests(tmp_path, paths)
    assert Store.default().root == cache


def test_no_flipped_bit_is_a_digest(tmp_path: Path, cache: Path) -> None:
    """Whatever is flipped in the memory of files, their digests are those of their content."""
    paths = write(tmp_path, "one", "two")
    digests(tmp_path, paths)
    (memory,) = (cache / "memory").iterdir()
    for flipped in flips(memory.read_bytes(), 7):
        memory.write_bytes(flipped)

        assert {"a": sha("one"), "b/b": sha("two")} == digests(tmp_path, paths)


def test_names_of_any_kind(tmp_path: Path) -> None:
    """Spaces, other alphabets and names that are not UTF-8 are names."""
    folder = tmp_path / "Grüße an\nalle"
    folder.mkdir()
    names = ["ä b.png", "日本"]
    if os.name == "posix":
        names.append(os.fsdecode(b"caf\xe9"))
    for name in names:
        (folder / name).write_text("one")
    by_path = digests(folder, folder.iterdir())

    assert {"ä b.png", "日本", *(["caf\\xe9"] if os.name == "posix" else [])} == set(by_path)
    assert {sha("one")} == set(by_path.values())
    assert by_path == digests(folder, folder.iterdir())
