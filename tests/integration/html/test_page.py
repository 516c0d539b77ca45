"""A report as a page: whole, self-contained, and looked at in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autosparse.html.page import plots_of, report_page
from autosparse.html.render import script_bundle
from autosparse.report.schema import Checked, Environment, LayerShare, Made, Report, Sanity
from tests.browser import CHROMIUM, Browser, browser
from tests.conftest import Ended, Workspace, call
from tests.docs.outputs import REPORTS

_NAMES = [
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "<!--",
    "a & b", '"><img src=x>', "\x1b[31mred", "\u202eabc", "名前", "{x}", "{{ 7 * 7 }}", "{% raw %}", "%s", "$x",
]  # fmt: skip
HOSTILE = ["".join(_NAMES[start::3]) for start in range(3)]
PLOTS = {"accuracy", "frontier", "frontier_seconds", "layers", "irp", "tuning", "cost", "timeline"}


@pytest.fixture(scope="module")
def report(finished: tuple[Workspace, Ended]) -> Report:
    """That of the small spec's run, as if its networks had learned in their one epoch."""
    report = Report.of(finished[1].json)
    return replace(report, results=[replace(one, status="trained") for one in report.results])


@pytest.fixture
def digits() -> Report:
    """A run of digits, with a timeline."""
    return of_digits()


def of_digits() -> Report:
    """Return the report of a run of digits, with a timeline."""
    report = Report.of(json.loads(REPORTS[0].read_text(encoding="utf-8")))
    return replace(report, timeline=[Made("data/digits", "network", 0.0, 1.0), Made("tune", "scorer", 1.0, 2.0)])


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the contents of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data


def shape(page: str) -> list[tuple[str, list[str]]]:
    """Return tags and names of attributes, without those of plots' marks, whose number depends on their labels."""
    return [
        (tag, sorted(attributes)) for tag, attributes in Elements(page).elements if tag not in ("path", "g", "text")
    ]


@pytest.mark.slow
def test_a_page_has_all_that_the_report_has(report: Report) -> None:
    """Verdicts, accuracies, plots, warnings, emitted models, provenance."""
    page = report_page(report, spec="version: 1  # as written")
    shown = html.unescape(page)

    assert PLOTS == plots_of(report).keys()
    assert [*re.findall('<figure id="(.+?)"', page)] == [
        "accuracy", "frontier", "frontier_seconds", "layers", "irp", "tuning", "cost", "timeline",
    ]  # fmt: skip
    assert len(PLOTS) == page.replace(script_bundle(), "").count("<svg ")
    for result in report.results:
        assert f"{result.test_accuracy:.2f}" in page
    for verdict in report.verdicts:
        assert verdict.words in shown
    for warning in report.warnings:
        assert warning in shown
    assert "safetensors" in page
    assert "version: 1  # as written" in page
    (made,) = report.provenance.environments
    for fact in (made.torch, made.processor, report.provenance.digest[:16], "epochs 1, batch 128"):
        assert fact in shown
    headings = re.findall("<h2>(.+?)</h2>", page.replace(script_bundle(), ""))
    plots = ["Accuracy against cost", "Accuracy against time"]
    assert ["Verdict", "Accuracy", *plots, "Exported models", "Warnings"] == headings[:6]
    assert "Provenance" == headings[-1]


def test_the_spec_keeps_its_lines(report: Report) -> None:
    """Line breaks and tabs stay, other invisible characters are marked, markup is text."""
    page = report_page(report, spec="a: 1  \r\nb:\n\t- <b>x\x1b</b>\u202e\n")

    assert "<pre>a: 1\nb:\n    - &lt;b&gt;x?&lt;/b&gt;?</pre>" in page


@pytest.mark.slow
def test_provenance_counts_environments(report: Report) -> None:
    """Cached artifacts may come from elsewhere: each environment has its row and its number of steps."""
    (here,) = report.provenance.environments
    there = Environment("0.0.9", "3.12.1", "2.10.0", "another processor", "cuda", 1, 3)
    page = report_page(replace(report, provenance=replace(report.provenance, environments=[here, there])))

    assert sum(report.steps.values()) == here.steps
    assert f"environment 1</th><td>autosparse {here.autosparse}" in page
    assert "torch 2.10.0, Python 3.12.1; cuda, 1 thread, another processor (3 steps)" in page


def test_sanity_checks_are_sentences(digits: Report) -> None:
    """Each with its method, budget and check; skipped ones have no verdict."""
    checks = [
        Checked("random_labels", 90.0, 90.0, -1.0, None, "it needs no true labels", ""),
        Checked("invert", None, None, None, None, "", "no scores"),
    ]
    item = Sanity("best", "snip", "0.98", 0.98, [0], 91.0, 91.0, {}, 1.0, "one seed", 2.8, checks)
    page = report_page(replace(digits, sanity=[item]))

    assert "<li>snip at sparsity 0.98, random labels: it needs no true labels</li>" in page
    assert 1 == page.count("<li>snip at")


@pytest.mark.slow
def test_a_page_fetches_nothing(report: Report) -> None:
    """Its policy forbids all but its own scripts, and no element names a file or an address."""
    page = report_page(report)
    tree = Elements(page)
    policy = next(one["content"] or "" for tag, one in tree.elements if tag == "meta" and "http-equiv" in one)
    ran = [text for kind, text in tree.scripts if kind is None]
    digests = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in ran]

    assert 2 == len(ran)
    assert "default-src 'none'" in policy
    assert f"script-src {' '.join(digests)};" in policy
    assert "unsafe-eval" not in policy
    assert {"html", "head", "body", "svg", "figure"} <= {tag for tag, _ in tree.elements}
    assert not {"link", "iframe", "object", "embed", "img", "base", "image"} & {tag for tag, _ in tree.elements}
    assert not [name for _, one in tree.elements for name in one if name.startswith("on") or name in ("src", "href")]
    without_bundle = page.replace(script_bundle(), "")
    known = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    addresses = {*re.findall(r"https?://[^\s\"'<>)]+", without_bundle)}
    assert known == {address for address in addresses if "vega.github.io/schema" not in address}
    assert not re.search(r"@import|url\(", without_bundle)


@pytest.fixture(scope="module")
def plain_page() -> str:
    """The page of a report with a plain name for everything."""
    return report_page(called(of_digits(), "plain"), spec="plain")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(digits: Report, plain_page: str, name: str) -> None:
    """Whatever a spec, model, method, source or layer is called: the page has the same elements and scripts."""
    odd = report_page(called(digits, name), spec=name)
    scripts, others = (Elements(page).scripts for page in (odd, plain_page))

    assert shape(plain_page) == shape(odd)
    assert [text for kind, text in others if kind is None] == [text for kind, text in scripts if kind is None]
    assert [kind for kind, _ in others] == [kind for kind, _ in scripts]
    for kind, text in scripts:
        if kind == "application/json":
            json.loads(text)
    assert not {"\x1b", "\u202e"} & {*odd}
    assert "alert(1)" not in "".join(text for kind, text in scripts if kind is None)
    assert "49" not in re.findall("<title>(.*?)</title>", odd)[0]


def called(report: Report, name: str) -> Report:
    """Return the report with a name for everything that a user names."""
    profiles = [replace(one, layers=[replace(LayerShare(name, 10, 5)), *one.layers]) for one in report.profiles]
    results = [replace(one, method=name) if one.method == "snip" else one for one in report.results]
    emitted = [replace(one, format=name) for one in report.emitted]
    return replace(
        report, spec=name, model=name, dataset=name, run=name, results=results, profiles=profiles, emitted=emitted,
        warnings=[name], irp=[{**item, "source": name} for item in report.irp],
        scorer={**report.scorer, "name": name, "objective": name}, timeline=[Made(name, "network", 0.0, 1.0)],
        provenance=replace(report.provenance, digest=name, finished=name, recipe={"epochs": name}),
        verdicts=[replace(one, words=name) for one in report.verdicts],
    )  # fmt: skip


def test_a_report_with_nothing_to_draw_is_a_page(report: Report) -> None:
    """Without results, IRP, scorer or cost, and without any script."""
    bare = replace(report, results=[], controls=[], irp=[], scorer={}, cost={}, profiles=[], emitted=[], verdicts=[])
    bare = replace(bare, timeline=[], missing=[], mask_costs=[])
    page = report_page(bare)

    assert {} == plots_of(bare)
    assert page.endswith("</html>\n")
    assert [] == Elements(page).scripts


@pytest.mark.slow
def test_the_command_writes_pages_and_plots(
    finished: tuple[Workspace, Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into new files; existing ones stay."""
    run = finished[0].folder / finished[1].json["run"]
    page, plots, pictures = tmp_path / "a" / "r.html", tmp_path / "plots", tmp_path / "pictures"
    first, again = (call(capsys, f"report {run} --html {page}") for _ in range(2))
    drawn, pictured = call(capsys, f"report {run} --svg {plots}"), call(capsys, f"report {run} --png {pictures}")

    assert (0, "", 2, 0, 0) == (first.code, first.out, again.code, drawn.code, pictured.code)
    assert "exists" in again.err
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    assert "per_round: 0.5" in page.read_text(encoding="utf-8")
    drawn_plots = PLOTS - {"frontier", "frontier_seconds"}  # of networks above chance
    assert {f"{name}.svg" for name in drawn_plots} == {path.name for path in plots.iterdir()}
    assert {f"{name}.png" for name in drawn_plots} == {path.name for path in pictures.iterdir()}
    assert 2 == call(capsys, f"report {run} --html {tmp_path / 'x'} --csv").code


@pytest.mark.parametrize("library", ["altair", "vl_convert"])
@pytest.mark.parametrize("output", ["html", "svg", "png"])
def test_plots_without_their_libraries(
    finished: tuple[Workspace, Ended],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    output: str,
) -> None:
    """One sentence with the command that installs them, and no file."""
    for module in [name for name in sys.modules if name.startswith(("autosparse.html.", f"{library}."))]:
        if module != "autosparse.html.page":
            monkeypatch.delitem(sys.modules, module)
    for name in ("charts", "effort_charts", "render"):
        monkeypatch.delattr(f"autosparse.html.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    ended = call(capsys, f"report {finished[0].folder / finished[1].json['run']} --{output} {tmp_path / 'out'}")

    assert 5 == ended.code
    assert f"error: `report --{output}` needs {library}, which is not installed\n" in ended.err
    assert "pip install 'autosparse[plots]'" in ended.err
    assert not (tmp_path / "out").exists()


def test_other_commands_load_no_plots() -> None:
    """Neither the package nor the commands import Altair, vl-convert or Jinja2 before a plot is asked for."""
    code = (
        "import sys, autosparse, autosparse.cli.runs\n"
        "print([name for name in ('altair', 'vl_convert', 'jinja2', 'torch') if name in sys.modules])"
    )

    assert "[]\n" == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


WIDTHS = (390, 900, 1600)
READY = "document.documentElement.dataset.ready"
MEASURES = {
    "width": "document.documentElement.scrollWidth",
    "beyond": "[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, pre') && "
    "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 99))",
    "plots": "[...document.querySelectorAll('figure')].map(one => one.id)",
    "live": "[...document.querySelectorAll('.plot')].map(one => one.querySelectorAll('.live > svg').length)",
    "static": "[...document.querySelectorAll('.plot')].map(one => one.querySelectorAll(':scope > svg').length)",
    "boxes": "[...document.querySelectorAll('.plot svg')].map(one => one.getBoundingClientRect().toJSON())"
    ".map(one => [one.x + scrollX, one.y + scrollY, one.width, one.height])",
    "small": "[...document.querySelectorAll('.live text')].filter(one => one.getBoundingClientRect().height > 0 && "
    "parseFloat(getComputedStyle(one).fontSize) < 10).length",
}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all looks of this module."""
    with browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def colours(screenshot: bytes, box: list[float]) -> dict[Any, int]:
    """Return the colours of a part of a screenshot and their numbers of pixels."""
    from PIL import Image

    x, y, width, height = box
    image = Image.open(io.BytesIO(screenshot)).convert("RGB").crop((int(x), int(y), int(x + width), int(y + height)))
    return {colour: count for count, colour in image.getcolors(2**24) or ()}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it(report: Report, chromium: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    """Live plots in the reader's theme, nothing wider than the window, no request, nothing on the console."""
    page = tmp_path / "r.html"
    page.write_text(report_page(report), encoding="utf-8")
    look = chromium.look(page, width=width, dark=dark, ready=READY, values=MEASURES)
    paper, line = ((20, 23, 28), (108, 178, 255)) if dark else ((255, 255, 255), (11, 98, 196))

    assert ([], []) == (look.requests, look.problems)
    assert (width, []) == (look.values["width"], look.values["beyond"])
    assert PLOTS == {*look.values["plots"]}
    assert [1] * len(PLOTS) == look.values["live"]
    assert [0] * len(PLOTS) == look.values["static"]
    assert 0 == look.values["small"]
    for box in look.values["boxes"]:
        drawn = colours(look.screenshot, box)
        assert paper == max(drawn, key=lambda colour: drawn[colour]) or drawn[paper] > 500
        assert 300 < sum(count for colour, count in drawn.items() if colour != paper)
        assert min(width - 40, 900) < box[2] + 40
    assert 500 < sum(colours(look.screenshot, box).get(line, 0) for box in look.values["boxes"])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_plots_are_there_without_scripts(report: Report, chromium: Browser, tmp_path: Path) -> None:
    """As drawn when the page was written, no wider than the window."""
    page = tmp_path / "r.html"
    page.write_text(report_page(report), encoding="utf-8")
    look = chromium.look(page, width=390, script=False, values=MEASURES)

    assert ([], []) == (look.requests, look.problems)
    assert (390, []) == (look.values["width"], look.values["beyond"])
    assert [1] * len(PLOTS) == look.values["static"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_long_names_keep_their_ends_in_a_narrow_window(digits: Report, chromium: Browser, tmp_path: Path) -> None:
    """A wide window shows the whole name."""
    name = "encoder.layers.encoder_layer_11.self_attention.out_proj"
    page = tmp_path / "r.html"
    profiles = [replace(one, layers=[LayerShare(f"{name}.weight", 10, 5)]) for one in digits.profiles]
    page.write_text(report_page(replace(digits, profiles=profiles)), encoding="utf-8")
    texts = {"names": "[...document.querySelectorAll('#layers .role-axis-label text')].map(one => one.textContent)"}
    narrow, wide = (chromium.look(page, width=width, ready=READY, values=texts) for width in (390, 1600))
    (short,) = [one for one in narrow.values["names"] if one.startswith("…")]

    assert name.endswith(short[1:])
    assert 10 < len(short) < len(name)
    assert name in wide.values["names"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_marks_have_tooltips(digits: Report, chromium: Browser, tmp_path: Path) -> None:
    """Method, budget and accuracy of the mark under the pointer; markup in a name stays text."""
    name = "<b onclick=alert(1)>snip</b>"
    odd = called(digits, name)
    page = tmp_path / "r.html"
    page.write_text(report_page(odd), encoding="utf-8")
    mark = f"[...document.querySelectorAll('#accuracy path')].find(one => one.ariaLabel?.includes({json.dumps(name)}))"
    box = (
        f"(() => {{ {mark}.scrollIntoView(); const box = {mark}.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    x, y = chromium.look(page, width=900, ready=READY, values={"at": box}).values["at"]
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    text = chromium.evaluate("document.querySelector('#vg-tooltip-element').innerText")

    assert name in text
    assert "sparsity 0.9" in text
    assert 0 == chromium.evaluate("document.querySelectorAll('#vg-tooltip-element b').length")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_runs_in_a_browser(digits: Report, chromium: Browser, tmp_path: Path, name: str) -> None:
    """All plots are live, no dialog opens, nothing is on the console."""
    page = tmp_path / "r.html"
    page.write_text(report_page(called(digits, name), spec=name), encoding="utf-8")
    look = chromium.look(page, width=900, ready=READY, values=MEASURES)

    assert ([], []) == (look.requests, look.problems)
    assert PLOTS == {*look.values["plots"]}
    assert [1] * len(PLOTS) == look.values["live"]
