"""Damaged files: flips, cuts and replacements, over all files of the cache, run folder, store and exported models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.faults.commands import LOAD, READERS, WRITERS, Command, References
from tests.faults.judge import Verdict
from tests.faults.kinds import Trial


def _bit(path: Path, random: Random) -> str:
    data = bytearray(path.read_bytes() or b"\0")
    position, bit = random.randrange(len(data)), random.randrange(8)
    data[position] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {position}"


def _byte(path: Path, random: Random) -> str:
    data = bytearray(path.read_bytes() or b"\0")
    position, value = random.randrange(len(data)), random.choice([*b'0123456789"{}[],-eax', 0, 255])
    data[position] = value
    path.write_bytes(data)
    return f"byte {position} = {value}"


def _cut(path: Path, random: Random) -> str:
    size = random.randrange(max(path.stat().st_size, 1))
    os.truncate(path, size)
    return f"cut to {size} bytes"


def _empty(path: Path, random: Random) -> str:
    os.truncate(path, 0)
    return "emptied"


def _more(path: Path, random: Random) -> str:
    with path.open("ab") as file:
        file.write(random.randbytes(1))
    return "one byte more"


def _zeros(path: Path, random: Random) -> str:
    os.truncate(path, 8 * 2**30)  # a hole, which takes no space
    return "8 GiB of zeros"


def _lost(path: Path, random: Random) -> str:
    path.unlink()
    return "removed"


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path, Random], str]:
    def damage(path: Path, random: Random) -> str:
        path.unlink()
        make(path)
        return name

    damage.__name__ = name
    return damage


_REPLACED = (
    _replaced("a folder", lambda path: path.mkdir()),
    _replaced("a FIFO", os.mkfifo),
    _replaced("a link to itself", lambda path: path.symlink_to(path.name)),
    _replaced("a link to nothing", lambda path: path.symlink_to("nothing")),
    _replaced("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")),
)
_WAYS = (*[_bit] * 6, *[_byte] * 4, _cut, _empty, _more, _zeros, _lost, *_REPLACED)

_OF_CACHE = tuple(READERS[name] for name in ("plan", "verify", "ls")) + tuple(
    WRITERS[name] for name in ("rerun", "export", "gc", "push", "cache export")
)
_OF_RUNS = tuple(READERS[name] for name in ("report", "runs", "plan with a scorer")) + tuple(
    WRITERS[name] for name in ("rerun", "export", "export to the run", "tag")
)
_OF_STORE = tuple(WRITERS[name] for name in ("pull", "run with a store", "push to the store", "gc of a store"))
_READ_BY = {
    "cache": _OF_CACHE,
    "runs": _OF_RUNS,
    "shared": _OF_STORE,
    "models": (READERS["inspect"], LOAD),
    "saved.json": (READERS["saved plan"],),
}
"""First part of a file's path -> the commands that read such files."""


def flips(known: References, random: Random) -> Iterator[Trial]:
    """Damage a file, run a command that may read it, then run the spec: no result is another one."""
    finished = known.world.base / "finished"
    paths = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    files: dict[str, list[Path]] = {top: [path for path in paths if path.parts[0] == top] for top in _READ_BY}
    while True:
        top = random.choice(["cache"] * 5 + ["runs"] * 3 + ["shared", "models", "saved.json"])
        path, way, keeps_time = random.choice(files[top]), random.choice(_WAYS), random.random() < 0.7
        command, seed = random.choice(_READ_BY[top]), random.random()

        def judge(
            path: Path = path, way: Callable[[Path, Random], str] = way, keeps_time: bool = keeps_time,
            command: Command = command, seed: float = seed,
        ) -> Verdict:  # fmt: skip
            command.prepare(known.world)
            return _judge(known, path, lambda there: way(there, Random(seed)), command, keeps_time=keeps_time)

        name = getattr(way, "__name__", "")
        yield Trial(f"{name.lstrip('_')} {path}, then `{command.line}`", judge)


def _judge(
    known: References, path: Path, damage: Callable[[Path], str], command: Command, *, keeps_time: bool
) -> Verdict:
    world = known.world
    there = world.folder / path
    if not there.exists():
        return Verdict("unharmed")  # the command starts without it
    before = there.stat()
    text = damage(there)
    if keeps_time and there.is_file() and not there.is_symlink():
        os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))
    ended = command.run(world)
    problem = known.problem(command, ended)
    if not problem and path.parts[0] in ("cache", "shared"):
        again = WRITERS["rerun"].run(world)
        later = known.problem(WRITERS["rerun"], again)
        if not later and again.code == 0 and (wrong := known.wrong_bytes()):  # a file that no step read
            later = "" if world.run("cache", "verify").code == 4 else wrong
        problem = f"the next run: {later}" if later else ""
    return Verdict.of(ended, f"{problem} [{text}]" if problem else "")
