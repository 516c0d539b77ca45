"""Every command that mentions runs prints user-defined names verbatim, whatever they contain."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from pathlib import Path

import pytest

from autosparse.html.render import script_bundle
from autosparse.store.sealed import seal
from tests.conftest import Workspace, call

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
HOSTILE = {
    "markup": "[bold red]x[/bold red]",
    "link": "[link=http://a.b]x[/link]",
    "emoji code": ":bomb:",
    "escape": "\x1b[2J\x1b[31mx",
    "bell": "a\x07b\x08c",
    "line": "a\r\nb\tc",
    "direction": "a\u202eb\u200fc\u2066d",
    "zero width": "a\u200bb\ufeffc",
    "wide": "ネットワーク",
    "right to left": "\u05e9\u05dc\u05d5\u05dd",
    "combining": "e\u0301\u0302\u0303x",
    "html": "<script>alert(1)</script>",
    "quotes": "a\"b'c`d",
    "braces": "{x} %s $y \\",
    "table": "a|b\n---",
    "formula": "=1+1",
    "long": "x" * 300,
}
COMMANDS = (
    "report digits-1",
    "report digits-1 --wide",
    "report digits-1 --md",
    "report digits-1 --csv",
    "compare digits-1 digits-2",
    "runs",
)
LITERAL = ("markup", "link", "emoji code", "html", "formula")
"""those of which every character is to be seen, wherever a table breaks them"""


@pytest.fixture
def hostile(here: Workspace, request: pytest.FixtureRequest) -> str:
    """Runs of a network, a dataset, methods, layers and a spec of such a name."""
    name = str(HOSTILE[request.param])
    shutil.copytree(RUNS, "runs")
    for folder in ("digits-1", "digits-2"):
        path = Path("runs") / folder / "report.json"
        report = json.loads(path.read_text(encoding="utf-8"))
        report |= {"spec": name, "model": name, "dataset": name, "method": name, "warnings": [name]}
        for results in ("results", "controls", "profiles", "mask_costs"):
            for one in report[results]:
                if one["method"] == "learned":
                    one["method"] = name
        for profile in report["profiles"]:
            profile["layers"][0]["name"] = f"{name}.weight"
        report["scorer"]["name"] = name
        report["emitted"][0]["format"] = name
        path.write_bytes(seal(report))
    return name


def harmless(text: str) -> bool:
    """Return whether a text has no control sequence for a terminal."""
    return not {unicodedata.category(char) for char in text.replace("\n", "")} & {"Cc", "Cf", "Cs"}


@pytest.mark.parametrize("hostile", HOSTILE, indirect=True)
def test_names_are_printed_literally(
    hostile: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markup stays, what cannot be seen is `?`, tables keep their width."""
    monkeypatch.setenv("COLUMNS", "120")
    for line in COMMANDS:
        ended = call(capsys, line)

        assert 0 == ended.code, ended.err
        assert harmless(ended.out), line
        if line not in ("report digits-1 --md", "runs") and hostile in {HOSTILE[kind] for kind in LITERAL}:
            assert hostile.replace(" ", "") in "".join(ended.out.split()), line


@pytest.mark.parametrize("hostile", HOSTILE, indirect=True)
def test_names_are_data_in_json(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is read back unchanged."""
    assert hostile == call(capsys, "report digits-1 --json").json["model"]


@pytest.mark.slow
@pytest.mark.parametrize("hostile", ["escape", "html"], indirect=True)
def test_names_do_nothing_in_a_page(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no script but its own, and no control character."""
    assert 0 == call(capsys, "report digits-1 --html page.html").code
    page = Path("page.html").read_text(encoding="utf-8").replace(script_bundle(), "")
    assert {"<script>", '<script type="application/json">'} == {*re.findall("<script.*?>", page)}
    assert 2 == page.count("<script>")
    assert harmless(page.replace("\t", ""))
