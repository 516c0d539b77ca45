"""Output verbatim: at 60, 80 and 120 columns, in colour and without, on terminals of any alphabet.

The screens at 80 columns are those in docs/screens. After an intended change,
`python -m tests.unit.console.test_screens` writes all of them again.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from autosparse.api.selftest import SelfTest
from autosparse.backends import Limit, Limits
from autosparse.cli import main
from autosparse.console.progress import Tree
from autosparse.cost.fit import fit_plan
from autosparse.packaged import shipped
from autosparse.store import Store
from tests.conftest import Workspace
from tests.plans import MACHINE, known_rates, remember_rates
from tests.unit.console.test_progress import drawn, fitted, replay

ROOT = Path(__file__).parents[3]
RUNS = ROOT / "tests" / "fixtures" / "runs"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def command(line: str) -> Callable[[int], str]:
    """Return the output of a command on both streams."""

    def run(width: int) -> str:
        out, err = io.StringIO(), io.StringIO()
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = out, err
        try:
            main(line.split())
        except SystemExit:
            pass
        finally:
            sys.stdout, sys.stderr = before
        return err.getvalue() + out.getvalue()

    return run


def live(width: int) -> str:
    """The middle of a run."""
    plan = fitted()
    tree, clock = Tree(plan, Console(file=io.StringIO(), width=width)), [1000.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", lambda: clock[0])
        patch.setattr("autosparse.console.progress.resident_memory", lambda **_: 812_000_000)
        tree = Tree(plan, Console(file=io.StringIO(), width=width))
        replay(tree, plan, clock)
        return drawn(tree, width) + "\n"


ENVIRONMENT = {
    "autosparse": "0.1.0",
    "python": "3.11.9",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "processor": "AMD EPYC 9654 96-Core Processor",
    "device": "cpu",
    "threads": 2,
}


LIMITS = Limits(
    cores=Limit(2, "cgroup v2 cpu.max of /"),
    threads=Limit(2, "cgroup v2 cpu.max of /"),
    memory=Limit(4 * 2**30, "cgroup v2 memory.max of /"),
    processes=Limit(512, "cgroup v2 pids.max of /"),
)


def doctor(width: int) -> str:
    """Return the output of `doctor` on a machine where the test fails or, below, passes."""
    from autosparse.cli import doctor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "default", lambda: Store(Path("/home/ada/.cache/autosparse")))
        patch.setattr(doctor, "environment", lambda _: ENVIRONMENT)
        patch.setattr(doctor, "this_machine", lambda: MACHINE)
        patch.setattr(doctor, "this_process", lambda: LIMITS)
        patch.setattr(doctor, "memory_of", lambda _: 3.9 * 2**30)
        patch.setattr(doctor, "available_memory", lambda: 3.7 * 2**30)
        patch.setattr(doctor, "free_processes", lambda: 488)
        patch.setattr(doctor, "system_load", lambda: 0.31)
        patch.setattr(doctor, "is_busy", lambda: False)
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2e11))
        patch.setattr(doctor, "missing_extras", lambda: {"timm": "pip install 'autosparse[timm]'"})
        patch.setattr(doctor, "self_test", lambda _: SelfTest("cpu", 2.1))
        passed = command("doctor")(width)
        patch.setattr(doctor, "self_test", lambda _: SelfTest("cpu", 0.4, "operator torchvision::nms does not exist"))
        return passed + command("doctor")(width)


SCREENS: dict[str, Callable[[int], str]] = {
    "plan": command("plan digits.yaml"),
    "explain": command("plan digits.yaml --explain tune"),
    "live": live,
    "report": command("report digits-1"),
    "report-wide": command("report digits-1 --wide --section paths --section layers"),
    "compare": command("compare digits-1 digits-2"),
    "runs": command("runs"),
    "doctor": doctor,
    "init-list": command("init --list"),
    "error": command("plan wrong.yaml"),
    "help": command("run --help"),
}


def where(name: str, width: int) -> Path:
    """The file of a screen."""
    if width == 80:
        return ROOT / "docs" / "screens" / f"{name}.txt"
    return ROOT / "tests" / "fixtures" / "screens" / f"{name}-{width}.txt"


@cache
def known_memory() -> dict[str, bytes]:
    """The files in which a store remembers known rates for the digits."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for threads in (1, 2):
            remember_rates(store, shipped("specs")["digits"], f"target.threads={threads}")
        return {path.name: path.read_bytes() for path in (store.root / "memory").iterdir()}


def prepared(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A folder with specs and runs, a machine of known speed, an empty cache."""
    shutil.copytree(RUNS, folder / "runs")
    for number, run in enumerate(sorted((folder / "runs").iterdir())):
        for file in run.iterdir():
            os.utime(file, (1e9 + number, 1e9 + number))
    shutil.copy(shipped("specs")["digits"], folder / "digits.yaml")
    (folder / "wrong.yaml").write_text(
        "version: 1\nmodel: resnet8\ndataset: digits\nbudget: [0.9, 1.5]\nmethod: lerned\ntraining: {epoch: 3}\n"
    )
    patch.chdir(folder)
    patch.setenv("AUTOSPARSE_CACHE_DIR", str(folder / "cache"))
    patch.delenv("AUTOSPARSE_SPEC", raising=False)
    memory = folder / "cache" / "memory"
    memory.mkdir(parents=True)
    for name, data in known_memory().items():
        (memory / name).write_bytes(data)
    for module in ("autosparse.api.runs.prepare", "autosparse.cli.app", "autosparse.cli.run", "autosparse.cost.rates"):
        patch.setattr(sys.modules[module], "this_machine", lambda: MACHINE)
    patch.setattr(sys.modules["autosparse.api.runs.prepare"], "fit_plan", partial(fit_plan, calibration=known_rates()))
    patch.setattr("autosparse.cost.fit.memory_of", lambda _: 16 * 2**30)


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return the directory in which screens are made."""
    prepared(tmp_path, monkeypatch)
    return monkeypatch


def clean(text: str) -> str:
    """Without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", SCREENS)
def test_screens_are_what_they_were(ready: pytest.MonkeyPatch, name: str, width: int) -> None:
    """To the letter, and no table or tree is wider than the terminal."""
    ready.setenv("COLUMNS", str(width))
    result = clean(SCREENS[name](width))

    assert where(name, width).read_text(encoding="utf-8") == result
    if name in ("live", "compare", "runs", "report", "report-wide"):
        assert max(map(len, result.splitlines())) <= width


@pytest.mark.parametrize("name", [name for name in SCREENS if name not in ("live", "help")])
def test_colours_are_all_that_a_terminal_adds(ready: pytest.MonkeyPatch, name: str) -> None:
    """The same text, and none where `NO_COLOR` asks for none."""
    ready.setenv("COLUMNS", "80")
    ready.setenv("FORCE_COLOR", "1")
    coloured = SCREENS[name](80)
    ready.setenv("NO_COLOR", "1")
    plain = SCREENS[name](80)

    assert where(name, 80).read_text(encoding="utf-8") == clean(COLOUR.sub("", coloured))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["report digits-1", "compare digits-1 digits-2", "list presets"])
def test_a_terminal_that_knows_only_ascii_gets_ascii(ready: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    """Bars are numbers of `#`, signs are spelled: no character is lost."""
    environment = {**Workspace(tmp_path).environment, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    ended = subprocess.run(
        [sys.executable, "-m", "autosparse", *line.split()], env=environment, cwd=tmp_path, capture_output=True
    )

    assert 0 == ended.returncode, ended.stderr
    assert "?" not in ended.stdout.decode("ascii")


if __name__ == "__main__":
    for name, screen in SCREENS.items():
        for width in (60, 80, 120):
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
                prepared(Path(folder), patch)
                patch.setenv("COLUMNS", str(width))
                where(name, width).write_text(clean(screen(width)), encoding="utf-8")
