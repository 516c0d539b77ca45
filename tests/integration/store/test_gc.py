"""Deletion of artifacts while another process uses some."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autosparse.store import Store
from tests.conftest import Workspace, call
from tests.unit.store.test_gc import DAY, KEYS, aged, days_ago, gone, left


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A cache with artifacts of several ages."""
    return aged(tmp_path)


def test_what_a_run_uses_that_goes_on_stays(store: Store) -> None:
    """However long ago it began; until it ends, or dies."""
    code = (
        "import sys, time; from pathlib import Path; from autosparse.store import in_use, Store\n"
        f"with in_use(Store(Path(sys.argv[1])), 'run', {KEYS[2:4]}): print('begun', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert "begun\n" == process.stdout.readline()
    store.note("used-run", {"time": days_ago(90), "keys": KEYS[2:4]})
    during = gone(store)
    process.kill()
    process.communicate()

    assert [] == during
    assert KEYS[2:4] == gone(store)


def test_what_is_made_at_the_moment_stays(store: Store) -> None:
    """Another process has its lock."""
    with store.lock(KEYS[2]):
        code = f"print(sorted(o.key for o in collect(Store(Path({str(store.root)!r})), {30 * DAY})))"
        ended = subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path\nfrom autosparse.store import Store, collect\n{code}"],
            capture_output=True,
            text=True,
            check=True,
        )

    assert f"['{KEYS[3]}']\n" == ended.stdout
    assert KEYS[2] in left(store)


def test_the_command(here: Workspace, capsys: pytest.CaptureFixture[str], store: Store) -> None:
    """`--dry-run` lists, and a plain call deletes."""
    assert here.cache == store.root
    document = call(capsys, "cache gc --dry-run")
    done = call(capsys, "cache gc --json")
    odd = [call(capsys, f"cache gc --unused {value}") for value in ("soon", "'2 h'")]

    assert "2 artifacts, 132 B, would be removed" == document.out.strip()
    assert {"schema_version": 1, "removed": True, "bytes": 132}.items() <= json.loads(done.out).items()
    assert [2, 2] == [ended.code for ended in odd]
    assert "less than a day" in odd[1].err
