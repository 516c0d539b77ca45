"""Control groups of this process, in versions 1, 2 and both: the folders that hold its limits, up to the root.

Every file is read below a `root` folder, so that tests can build the files of any container.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
_UNLIMITED = 2**60  # version 1 writes a number near 2**63 for no limit
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space in mountinfo is \040


@dataclass(frozen=True)
class Group:
    """A control group that holds this process: its folder, its version, and its path as the mount shows it."""

    folder: Path
    version: int
    path: str

    def words(self, file: str) -> list[str]:
        """Return the words of a file; empty without the file."""
        return read_system(self.folder / file).split()

    def number(self, file: str) -> int | None:
        """Return the number in a file; None without one or without a limit."""
        return limited(" ".join(self.words(file)))

    def statistic(self, file: str, *names: str) -> int | None:
        """Return the first of several entries of a file with lines such as `anon 4096`."""
        words = self.words(file)
        entries = dict(zip(words[::2], words[1::2], strict=False))
        return next((number for name in names if (number := limited(entries.get(name, ""))) is not None), None)

    def source(self, file: str) -> str:
        """Return a limit's source in words."""
        return f"cgroup v{self.version} {file} of {self.path}"


def groups_of(controller: str, root: Path = ROOT) -> list[Group]:
    """Return the groups that may limit a resource (`cpu`, `memory`, `pids`), from the process's own to the root.

    A limit counts at every level. With version 1 for one controller and version 2 for another, both hierarchies are
    listed: a group without the controller lacks its files. A path that the container does not see counts as the root
    of its mount.
    """
    groups: list[Group] = []
    for version, path in _paths(controller, root):
        mounts = [mount for mount in _mounts(root) if mount.serves(version, controller)]
        # The mount that shows the path; a later mount hides an earlier one.
        mount = max(mounts, key=lambda mount: mount.match(path), default=None)
        if mount is not None:
            groups += mount.groups(path, root)
    return list(dict.fromkeys(groups))


def read_system(path: str | Path) -> str:
    """Return the text of a system file; empty where the system does not have it."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def system_bytes(path: str | Path, name: str) -> int:
    """Return the bytes of an entry such as `MemTotal: 16 kB` of a system file; 0 without such an entry."""
    match = re.search(rf"^{name}:\s*(\d+) kB", read_system(path), re.MULTILINE)
    return 1024 * int(match[1]) if match else 0


def limited(text: str) -> int | None:
    """Return a limit as written by the kernel; None for `max`, -1, a number near 2**63, or other text."""
    text = text.strip()
    return int(text) if re.fullmatch(r"[0-9]{1,30}", text) and int(text) < _UNLIMITED else None


@dataclass(frozen=True)
class _Mount:
    version: int
    top: str
    """the group that the mount point shows"""
    point: str
    controllers: frozenset[str]

    def serves(self, version: int, controller: str) -> bool:
        return self.version == version and (version == 2 or controller in self.controllers)

    def match(self, path: str) -> int:
        below = PurePosixPath(path).is_relative_to(self.top) and ".." not in PurePosixPath(path).parts
        return len(PurePosixPath(self.top).parts) if below else 0

    def groups(self, path: str, root: Path) -> Iterator[Group]:
        inner = PurePosixPath(path).relative_to(self.top) if self.match(path) else PurePosixPath()
        point = root / self.point.lstrip("/")
        for part in (inner, *inner.parents):
            if os.path.isdir(folder := point / part):
                yield Group(folder, self.version, posixpath.join(self.top, part).removesuffix("/.") or "/")


def _paths(controller: str, root: Path) -> list[tuple[int, str]]:
    # Version and path of the process's groups: lines such as `4:cpu,cpuacct:/docker/3f` and, of version 2, `0::/`.
    lines = [line.split(":", 2) for line in read_system(root / "proc/self/cgroup").splitlines()]
    parsed = [line for line in lines if len(line) == 3]
    paths = [(1, path) for _, names, path in parsed if controller in names.split(",")]
    paths += [(2, path) for number, names, path in parsed if number == "0" and not names]
    cleaned = [(version, path.removesuffix(" (deleted)")) for version, path in paths]
    return cleaned or [(1, "/"), (2, "/")]


def _mounts(root: Path) -> list[_Mount]:
    # Lines such as `31 23 0:28 /docker/3f /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct`.
    mounts: list[_Mount] = []
    for line in read_system(root / "proc/self/mountinfo").splitlines():
        fields, kind = (part.split(" ") for part in line.partition(" - ")[::2])
        if len(fields) < 5 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        top, point = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
        mounts.append(_Mount(2 if kind[0] == "cgroup2" else 1, top, point, frozenset(kind[-1].split(","))))
    if mounts:
        return mounts[::-1]  # `max` takes the first of several
    names = ("cpu", "memory", "pids")
    usual = [_Mount(1, "/", f"/sys/fs/cgroup/{name}", frozenset({name})) for name in names]
    return [*usual, _Mount(2, "/", "/sys/fs/cgroup", frozenset())]
