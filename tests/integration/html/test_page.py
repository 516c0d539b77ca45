"""A report as a page: whole, on its own, and looked at in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.html.page import plots_of, report_page
from autosparse.html.svg import standalone
from autosparse.report.schema import LayerShare, Profile, Report
from tests.conftest import Ended, Workspace, call

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = ["<script>alert(1)</script>", "a & b", '"><img src=x>', "\x1b[31mred", "‮abc", "名前", "{x}", "%s", "$x"]


@pytest.fixture
def report(finished: tuple[Workspace, Ended]) -> Report:
    """That of the small spec's run."""
    return Report.of(finished[1].json)


def test_a_page_has_all_that_the_report_has(report: Report) -> None:
    """Plots, every accuracy, verdicts, warnings, emitted models."""
    page = report_page(report)

    assert {"accuracy", "layers", "irp", "tuning", "cost", "timeline"} == plots_of(report).keys()
    assert 6 == page.count("<svg ")
    assert page.count("<rect ") > len(report.timeline) > 20
    for result in report.results:
        assert f"{result.test_accuracy:.2f}" in page
    for verdict in report.verdicts:
        assert re.sub("[<>&'\"].*", "", verdict.words) in page
    assert page.count('class="warning"') == len(report.warnings)
    assert "safetensors" in page


def test_methods_of_one_budget_are_bars(report: Report) -> None:
    """Each with its name and its accuracy, the best first: a line needs two points."""
    one = replace(report, results=[r for r in report.results if r.method == "dense" or r.sparsity == 0.8], controls=[])
    plot = plots_of(one)["accuracy"]

    assert "sparsity 0.8" in plot
    assert "<path" not in plot
    for name in {result.method for result in one.results}:
        assert f">{name}</text>" in plot


def test_a_page_fetches_nothing(report: Report) -> None:
    """No address but that of SVG's namespace, no script, no frame, no link."""
    page = report_page(report)

    assert {"http://www.w3.org/2000/svg"} == {*re.findall(r"https?://[^\s\"'<>)]+", page)}
    assert not re.search(r"<(script|link|iframe|object|embed|img|base)|@import|url\(|\bon\w+=", page)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(report: Report, name: str) -> None:
    """Whatever a spec, model, method or layer is called: plots stay XML, the page has no other tags."""
    profile = [replace(p, layers=[LayerShare(name, 10, 5)] * 3) for p in report.profiles]
    results = [replace(result, method=name) if result.method == "snip" else result for result in report.results]
    odd = replace(report, spec=name, model=name, dataset=name, results=results, profiles=profile, warnings=[name])
    page = report_page(odd)

    for plot in plots_of(odd).values():
        ET.fromstring(standalone(plot))
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "‮" not in page


def test_a_report_with_nothing_to_draw_is_a_page(report: Report) -> None:
    """Without results, IRP, scorer or cost."""
    bare = replace(report, results=[], controls=[], irp=[], scorer={}, cost={}, profiles=[], emitted=[], verdicts=[])
    bare = replace(bare, timeline=[])

    assert {} == plots_of(bare)
    assert "</html>" in report_page(bare)


def test_the_command_writes_pages_and_plots(
    finished: tuple[Workspace, Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New files are written; existing ones stay."""
    run = finished[0].folder / finished[1].json["run"]
    page, plots = tmp_path / "a" / "r.html", tmp_path / "plots"
    first, again = (call(capsys, f"report {run} --html {page}") for _ in range(2))
    drawn = call(capsys, f"report {run} --svg {plots}")

    assert (0, "", 2, 0) == (first.code, first.out, again.code, drawn.code)
    assert "exists" in again.err
    assert page.read_text().endswith("</html>\n")
    names = ["accuracy", "cost", "irp", "layers", "timeline", "tuning"]
    assert [f"{name}.svg" for name in names] == sorted(p.name for p in plots.iterdir())
    assert 2 == call(capsys, f"report {run} --html {tmp_path / 'x'} --csv").code


def test_pictures_have_the_colours_of_plots(
    finished: tuple[Workspace, Ended], report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines, bands, bars and text of every plot, on white."""
    from PIL import Image

    ended = call(capsys, f"report {finished[0].folder / finished[1].json['run']} --png {tmp_path / 'plots'}")

    assert (0, "") == (ended.code, ended.out)
    assert {f"{name}.png" for name in plots_of(report)} == {p.name for p in (tmp_path / "plots").iterdir()}
    for file in (tmp_path / "plots").iterdir():
        image = Image.open(file).convert("RGB")
        colours = {colour: count for count, colour in image.getcolors(2**24) or ()}
        assert 2160 == image.width
        assert (255, 255, 255) == max(colours, key=lambda colour: colours[colour])
        assert colours.get((11, 98, 196), 0) > 200, file


def test_pictures_without_their_library(
    finished: tuple[Workspace, Ended],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence with the command that installs it."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    ended = call(capsys, f"report {finished[0].folder / finished[1].json['run']} --png {tmp_path / 'plots'}")

    assert 5 == ended.code
    assert "pip install 'autosparse[plots]'" in ended.err


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to look at the page with")
@pytest.mark.parametrize(("theme", "paper"), [(1, (255, 255, 255)), (0, (20, 23, 28))], ids=["light", "dark"])
def test_a_browser_shows_it(report: Report, tmp_path: Path, theme: int, paper: tuple[int, int, int]) -> None:
    """In the reader's theme, with lines in the colours of their methods, nothing wider than the window."""
    from PIL import Image

    page, shot = tmp_path / "r.html", tmp_path / "r.png"
    wide = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    page.write_text(report_page(report).replace("</body>", wide), encoding="utf-8")
    common = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--blink-settings=preferredColorScheme={theme}",
    ]
    common += ["--window-size=900,2600", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run([*common, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=120)
    dump = subprocess.run(
        [*common, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    )
    image = Image.open(shot).convert("RGB")
    colours = {colour: count for count, colour in image.getcolors(2**24) or ()}

    assert paper == image.getpixel((2, 2))
    assert paper == max(colours, key=lambda colour: colours[colour])
    first = (11, 98, 196) if theme else (108, 178, 255)
    assert 200 < colours.get(first, 0)
    width = re.search(r"<title>(\d+)</title>", dump.stdout)
    assert width is not None
    assert int(width[1]) <= 900


def test_profiles_of_other_layers_are_drawn_beside(report: Report) -> None:
    """Methods keep shares of the same layers; a full one is at 2 in powers of ten of a percent."""
    layers = [LayerShare("a.weight", 100, 100), LayerShare("b.weight", 100, 1)]
    plot = plots_of(replace(report, profiles=[Profile(report.method, "0.9", 0, layers)]))["layers"]

    assert ["learned: 2", "learned: 0"] == re.findall(r"<title>(.*?)</title>", plot)
