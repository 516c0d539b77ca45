"""Kills and failing system calls, at every call below the trial's folder that a command makes."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from random import Random

from tests.faults.commands import LATER, READERS, RUN, WRITERS, Command, References
from tests.faults.judge import Verdict
from tests.faults.kinds import Trial
from tests.faults.system_calls import CHANGES

_OPENING = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE, errno.EROFS, errno.EDQUOT)
_ERRORS = {
    "open to write": _OPENING,
    "open to read": (errno.EIO, errno.EACCES, errno.EMFILE, errno.EINTR),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR),
    "sendfile": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "read": (errno.EIO, errno.EINTR),
    "stat": (errno.EIO, errno.EACCES),
    "lstat": (errno.EIO, errno.EACCES),
    "scandir": (errno.EIO, errno.EACCES, errno.EMFILE),
    "listdir": (errno.EIO, errno.EACCES, errno.EMFILE),
}
_CHANGING = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
"""Errors of calls that no row names, such as rename and mkdir."""


def kills(known: References, random: Random, names: Collection[str] = tuple(WRITERS)) -> Iterator[Trial]:
    """Kill a command after the n-th call that changes a file: a rerun ends as if nothing had happened."""
    points = [(name, number + 1, call) for name in names for number, call in enumerate(_calls(known, WRITERS[name]))]
    random.shuffle(points)
    for name, number, call in points:

        def judge(name: str = name, number: int = number) -> Verdict:
            return _judge_kill(known, name, number)

        yield Trial(f"`{name}` killed after change {number} ({call})", judge)


def failures(known: References, random: Random, names: Collection[str] = (*WRITERS, *READERS)) -> Iterator[Trial]:
    """Fail the n-th call of a command: it ends with one line, and a rerun without the fault with the same bytes."""
    commands = {**WRITERS, **READERS}
    points = [
        (name, number + 1, call, error)
        for name in names
        for number, call in enumerate(_calls(known, commands[name], changes=False))
        for error in _ERRORS.get(_name_of(call), _CHANGING)
    ]
    random.shuffle(points)
    for name, number, call, error in points:

        def judge(name: str = name, number: int = number, error: int = error) -> Verdict:
            return _judge_failure(known, commands[name], number, error)

        yield Trial(f"`{name}` with {errno.errorcode[error]} at call {number} ({call})", judge)


def _name_of(call: str) -> str:
    return next(name for name in sorted({*_ERRORS, *CHANGES}, key=len, reverse=True) if call.startswith(f"{name} "))


def _calls(known: References, command: Command, *, changes: bool = True) -> list[str]:
    # The calls of the command, as `name path`.
    world, trace = known.world, known.world.base / "trace"
    command.prepare(world)
    ended = command.run_until(world, changes=changes, trace=str(trace))
    assert ended.code == 0, f"{command.line}: {ended.err}"
    return trace.read_text(errors="replace").splitlines()


def _judge_kill(known: References, name: str, number: int) -> Verdict:
    command, world = WRITERS[name], known.world
    command.prepare(world)
    command.run_until(world, at=number)
    again = command.run(world)
    problem = known.of_rerun(command, again)
    if not problem and "gc" not in name:
        problem = known.wrong_bytes(whole=command == RUN)
    if not problem and (verified := world.run("cache", "verify")).code:
        problem = f"`cache verify` reports damage: {verified.out.splitlines()[0][:160]}"
    return Verdict.of(again, problem or known.of_listing(command, _after_gc(known), aged=lambda: _after_gc(known)))


def _after_gc(known: References) -> set[str]:
    # Files and folders a month later, after a garbage collection of the cache and the stores that keeps all artifacts.
    world = known.world
    world.run("cache", "gc", "--unused", "100d", hooks=[LATER])
    for store in ("shared", "other"):
        if (world.folder / store).exists():
            world.run("cache", "gc", "--unused", "100d", "--store", store, hooks=[LATER])
    return world.listing()


def _judge_failure(known: References, command: Command, number: int, error: int) -> Verdict:
    world = known.world
    command.prepare(world)
    ended = command.run_until(world, changes=False, at=number, error=error)
    problem = known.problem(command, ended)
    again = command.run(world)
    if ended.code and (later := known.of_rerun(command, again)):
        problem = problem or f"the rerun: {later}"
    return Verdict.of(ended, problem, known.wrong_bytes(whole=command == RUN))
