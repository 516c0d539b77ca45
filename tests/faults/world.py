"""World of a trial: a finished run with its cache, shared store and exported models, restored before every trial."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from autosparse.backends import this_machine
from autosparse.store import Store
from autosparse.store.files import file_digest
from tests.conftest import Ended, _ask
from tests.plans import remember_rates

SPEC = """\
version: 1
model: {name: resnet8, width: 2}
dataset: {name: digits, images_per_class: 12}
budget: [0.8, {parameters: 500}]
target: {device: cpu, threads: 1}
irp: {rounds: 1, per_round: 0.5}
scorer: {name: mlp, steps: 2}
tuning: {trials: 1}
training: {epochs: 1, batch: 64, lr: 0.05, crop: 0, flip: false, precision: float32}
compare: [dense]
controls: []
emit: [safetensors]
"""

Hook = tuple[str, str, Mapping[str, Any]]
"""Module, function and options that the process of a command calls first."""
_LIMITS: Hook = ("tests.faults.system_calls", "limit", {"seconds": 60, "memory": 8 * 2**30})


@dataclass(frozen=True)
class World:
    """Folder of a trial, and copies of it before and after a run."""

    base: Path

    @classmethod
    def create(cls, base: Path) -> World:
        """Run the tiny spec once, and keep the folder as it is before and after."""
        world = cls(base)
        world.folder.mkdir(parents=True)
        (world.folder / "tiny.yaml").write_text(SPEC)
        (world.folder / "reuse.yaml").write_text(
            SPEC.replace("scorer: {name: mlp, steps: 2}", "scorer: {pretrained: runs/tiny-1/scorer}")
            .replace("irp: {rounds: 1, per_round: 0.5}\n", "")
            .replace("tuning: {trials: 1}\n", "")
        )  # fmt: skip
        with patch.dict(os.environ, {"AUTOSPARSE_CACHE_DIR": str(world.cache)}):  # of the facts of networks
            remember_rates(Store(world.cache), world.folder / "tiny.yaml", machine=this_machine())
        world.must("plan", "tiny.yaml")
        world._keep("fresh")
        world.must("run", "tiny.yaml")
        world.must("plan", "tiny.yaml", "--out", "saved.json")
        world.must("cache", "push", "tiny.yaml", "shared", "--all")
        world.must("export", "tiny-1", "--out", "models")
        world.must("plan", "reuse.yaml")
        world._keep("finished")
        return world

    @property
    def folder(self) -> Path:
        """Folder of the trial."""
        return self.base / "trial"

    @property
    def cache(self) -> Path:
        """Cache of the trial."""
        return self.folder / "cache"

    def restore(self, name: str) -> None:
        """Restore the folder as it was: `fresh` before the run, or `finished`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.base / name, self.folder, symlinks=True)

    def run(self, *arguments: str, hooks: Sequence[Hook] = ()) -> Ended:
        """Run a command in a new process; one that hangs is killed by SIGALRM."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTOSPARSE_")}
        environment = {**kept, "AUTOSPARSE_CACHE_DIR": str(self.cache), "NO_COLOR": "1", "COLUMNS": "100"}
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            request = {"arguments": arguments, "folder": str(self.folder), "environment": environment}
            code = _ask({**request, "out": str(out), "err": str(err), "hooks": [_LIMITS, *hooks]})
            return Ended(code, *(path.read_text(errors="backslashreplace") for path in (out, err)))

    def must(self, *arguments: str, hooks: Sequence[Hook] = ()) -> Ended:
        """Run a command that must end with 0."""
        ended = self.run(*arguments, hooks=hooks)
        assert ended.code == 0, f"{arguments}: {ended.code}\n{ended.err}"
        return ended

    def listing(self) -> set[str]:
        """Return the files and folders of the trial, without locks and what the cache remembers under its name."""
        paths = (path for path in self.folder.rglob("*") if "locks" not in path.parts)
        names = {str(path.relative_to(self.folder)) for path in paths}
        return {name for name in names if not re.fullmatch(r"cache/(memory/[^.].*|fetched.*)", name)}

    def digests(self, folder: Path) -> dict[str, str]:
        """Return the sha256 of every file of an artifact that is the same in every run, of a state of the trial."""
        paths = (folder / "cache" / "artifacts").glob("*/*/*")
        return {
            str(path.relative_to(folder)): file_digest(path)
            for path in paths
            if path.name not in ("artifact.json", "measured.json", "card.json") and path.is_file()
        }

    def _keep(self, name: str) -> None:
        shutil.copytree(self.folder, self.base / name, symlinks=True)
