"""Commands under test, with the state that each starts from and the part of its output that no fault may change."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import Ended
from tests.faults.judge import difference, parsed, planned, problem_of, stable
from tests.faults.world import Hook, World

LATER: Hook = ("tests.faults.system_calls", "later", {"days": 40})
_SEAM = "tests.faults.system_calls", "install"


def same(value: Any) -> Any:
    """Return a value as it is."""
    return value


@dataclass(frozen=True)
class Command:
    """Command line from a state of the world; `result` reduces its JSON output to what must not change."""

    line: str
    start: str = "finished"
    hooks: tuple[Hook, ...] = ()
    without: tuple[str, ...] = ()
    """parts of the trial's folder that the command starts without"""
    result: Callable[[Any], Any] | None = None
    once: bool = False
    """whether a rerun refuses to replace the result"""

    @property
    def name(self) -> str:
        """Line and state, which no two commands share."""
        return f"{self.line} from {self.start} without {self.without}"

    def prepare(self, world: World) -> None:
        """Restore the state that the command starts from."""
        world.restore(self.start)
        for name in self.without:
            shutil.rmtree(world.folder / name)

    def run(self, world: World, *hooks: Hook) -> Ended:
        """Run the command as the state is."""
        return world.run(*self.line.format(folder=world.folder).split(), hooks=(*self.hooks, *hooks))

    def run_until(self, world: World, **seam: Any) -> Ended:
        """Run the command behind the seam of system calls."""
        return self.run(world, (*_SEAM, {"folder": str(world.folder), **seam}))


_MODEL = "models/models/learned-0.8-seed0/safetensors"
_SHORT = "--set emit=[] --json"
RUN = Command(f"run tiny.yaml {_SHORT}", "fresh", result=stable)
WRITERS = {
    "run": RUN,
    "run --out": Command(f"run tiny.yaml --out there {_SHORT}", "fresh", result=stable),
    "rerun": Command("run tiny.yaml --json", result=stable),
    "short rerun": Command(f"run tiny.yaml {_SHORT}", result=stable),
    "run with a store": Command(
        f"run tiny.yaml --set store={{folder}}/shared {_SHORT}", without=("cache/artifacts",), result=stable
    ),
    "plan --out": Command("plan tiny.yaml --json --out new.json", result=planned),
    "export": Command("export tiny-1 --out again --json", result=stable, once=True),
    "export to the run": Command("export tiny-1 --json", without=("runs/tiny-1/models",), result=stable),
    "gc": Command("cache gc --unused 1d", hooks=(LATER,)),
    "gc of a store": Command("cache gc --unused 1d --store shared", hooks=(LATER,)),
    "push": Command("cache push tiny.yaml other --all"),
    "pull": Command("cache pull shared", without=("cache/artifacts",)),
    "push to the store": Command("cache push tiny.yaml shared --all"),
    "cache export": Command("cache export tiny.yaml packed.zip --all", once=True),
    "tag": Command("runs tag tiny-1 good"),
}  # fmt: skip
"""Commands that change files."""
READERS = {
    "plan": Command("plan tiny.yaml --json", result=planned),
    "plan with a scorer": Command("plan reuse.yaml --json", result=planned),
    "report": Command("report tiny-1 --json", result=same),
    "runs": Command("runs --json", result=same),
    "markdown": Command("report tiny-1 --md"),
    "compare": Command("compare tiny-1 tiny-1"),
    "verify": Command("cache verify"),
    "ls": Command("cache ls --json"),
    "inspect": Command(f"inspect {_MODEL} --json", result=same),
    "saved plan": Command("run saved.json --json", result=stable),
}
"""Commands that change none."""


def load_model(path: str) -> None:
    """Load an emitted model, print the digest of its state as JSON, and exit."""
    import autosparse
    from autosparse.errors import AutosparseError
    from autosparse.store import dump_tensors

    try:
        state = autosparse.load(path).state_dict()
    except AutosparseError as error:
        sys.stderr.write(f"error: {error.message}\n")
        raise SystemExit(error.exit_code) from None
    sys.stdout.write(json.dumps(hashlib.sha256(dump_tensors(state)).hexdigest()))
    raise SystemExit(0)


LOAD = Command("load", hooks=(("tests.faults.commands", "load_model", {"path": _MODEL}),), result=same)
"""`autosparse.load`, which is no command."""


@dataclass
class References:
    """Results of the commands in an undamaged world, and the artifacts of its run."""

    world: World
    _results: dict[str, Any] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)
    _listings: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._digests.update(self.world.digests(self.world.base / "finished"))

    def result(self, command: Command) -> Any:
        """Return the result of a command in an undamaged world."""
        if command.result and command.name not in self._results:
            command.prepare(self.world)
            ended = command.run(self.world)
            assert ended.code == 0, ended.err
            self._results[command.name] = command.result(parsed(ended.out))
        return self._results.get(command.name)

    def problem(self, command: Command, ended: Ended, *, must: bool = False) -> str:
        """Return the fault in the end of a command: another result, more than one line, and, with `must`, any error."""
        if problem := problem_of(ended):
            return problem
        if ended.code:
            return f"exit code {ended.code}: {ended.err.strip()[:200]}" if must else ""
        if command.result is None:
            return ""
        if (document := parsed(ended.out)) is None:
            return f"no JSON document: {ended.out[:80]!r}"
        differs = difference(self.result(command), command.result(document))
        return f"another result: {differs}" if differs else ""

    def of_rerun(self, command: Command, ended: Ended) -> str:
        """Return the fault in the end of a rerun, which succeeds, or refuses to replace a complete result."""
        if ended.code == 2 and command.once:
            return self.of_listing(command, self.world.listing())
        return self.problem(command, ended, must=True)

    def of_listing(self, command: Command, actual: set[str], *, aged: Callable[[], set[str]] | None = None) -> str:
        """Return the files that a command left, or that it lacks, against an undisturbed one followed by a rerun."""
        name = f"{command.name} {aged is not None}"
        if name not in self._listings:
            kept = self.world.base / "kept"
            self.world.folder.rename(kept)
            command.prepare(self.world)
            command.run(self.world)
            command.run(self.world)
            self._listings[name] = aged() if aged else self.world.listing()
            shutil.rmtree(self.world.folder)
            kept.rename(self.world.folder)
        more, fewer = sorted(actual - self._listings[name]), sorted(self._listings[name] - actual)
        return f"leaves {', '.join(more)[:200]}" if more else f"lacks {', '.join(fewer)[:200]}" if fewer else ""

    def wrong_bytes(self, *, whole: bool = False) -> str:
        """Return the artifact's file whose bytes are not those of an undamaged run, and with `whole` an absent one."""
        actual = self.world.digests(self.world.folder)
        for name, sha256 in self._digests.items():
            if actual.get(name, "" if whole and "/emit/" not in name else sha256) != sha256:
                return f"{'other bytes in' if name in actual else 'no'} {name[:48]}.../{name.rpartition('/')[2]}"
        return ""
