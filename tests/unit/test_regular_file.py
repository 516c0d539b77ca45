"""Only regular files are opened: nothing waits for a pipe, and nothing reads a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import autosparse
from autosparse.datasets.image_folder import read_layout
from autosparse.errors import AutosparseError, DamagedArtifact, SpecError
from autosparse.planning.saved import _is_ours
from autosparse.regular_file import NotRegularError, open_regular, read_regular
from autosparse.report.folder import _load
from autosparse.spec import load_spec
from autosparse.store import Store, contents

KEY = "0" * 64
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def test_a_file_is_read(tmp_path: Path) -> None:
    """Links to files count as files."""
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").symlink_to("a")

    assert b"one" == read_regular(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "c")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(tmp_path: Path, target: str) -> None:
    """A link to it too."""
    (tmp_path / "a").symlink_to(target)

    with pytest.raises(NotRegularError, match="it is a device, not a file"):
        read_regular(tmp_path / "a")


def test_pipes_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without a writer at the other end."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")

        for name in ("pipe", "socket"):
            with pytest.raises(NotRegularError, match=f"it is a .*{name}, not a file"):
                read_regular(name)


def descriptor(path: Path) -> None:
    """Open an artifact whose descriptor is a pipe."""
    folder = path.parent / "artifacts" / "irp" / KEY
    folder.mkdir(parents=True)
    path.rename(folder / "artifact.json")
    Store(path.parent).open("irp", KEY)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (descriptor, DamagedArtifact),
        (lambda path: contents(path.parent, [path]), AutosparseError),
        (autosparse.Masks.load, AutosparseError),
        (autosparse.load, AutosparseError),
    ],
)
def test_whoever_reads_a_pipe_says_so(tmp_path: Path, read: Callable[[Path], object], error: type[Exception]) -> None:
    """One line, instead of a wait without end."""
    os.mkfifo(path := tmp_path / "model.safetensors")

    with pytest.raises(error, match="not a file") as caught:
        read(path)

    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    """Files of runs and of the store's memory are ignored where they are none."""
    (tmp_path / "memory").mkdir()
    os.mkfifo(tmp_path / "memory" / "x.json")

    assert None is _load(tmp_path / "memory" / "x.json")
    assert None is Store(tmp_path).recall("x")
    assert not _is_ours(tmp_path / "memory" / "x.json")


def test_a_pipe_among_pictures_is_left_out(tmp_path: Path) -> None:
    """A warning counts it."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"x")
    os.mkfifo(tmp_path / "cat" / "b.png")

    layout = read_layout(tmp_path)

    assert [tmp_path / "cat" / "a.png"] == layout.parts["train"]["cat"]
    assert "pipes, sockets and devices" in " ".join(layout.warnings)


def test_a_spec_may_be_a_pipe_of_limited_size(tmp_path: Path) -> None:
    """Such as `<(...)`; one without end is too large."""
    ends = os.pipe()
    os.write(ends[1], b"{version: 1, model: lenet, dataset: digits, method: snip}")
    os.close(ends[1])
    (tmp_path / "endless").symlink_to("/dev/zero")

    assert "lenet" == load_spec(Path(f"/dev/fd/{ends[0]}")).spec.model.name
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_spec(tmp_path / "endless")
    os.close(ends[0])
