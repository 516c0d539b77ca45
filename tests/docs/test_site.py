"""The documentation site: it builds without a warning, loads nothing from elsewhere, and documents the public names."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import autosparse
import autosparse.api

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "docs" / "_hooks" / "mathml.py"


def hook() -> ModuleType:
    """Return the module of the site's hook, which is in no package."""
    spec = importlib.util.spec_from_file_location("mathml", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Loaded(HTMLParser):
    """Collector of the addresses that a page loads, not those that it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the sources of scripts, images, styles and frames."""
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        self.addresses += [given.get(name) or "" for name in ("src", "data") if given.get(name)]
        if tag == "link":
            self.addresses.append(given.get("href") or "")


@pytest.mark.slow
def test_the_site_builds_and_is_self_contained(tmp_path: Path) -> None:
    """`mkdocs build --strict` checks links and headings; no page loads a font, style or script from elsewhere."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == ended.returncode, ended.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    loaded = Loaded()
    for page in pages:
        loaded.feed(page.read_text(encoding="utf-8"))
    interface = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    formula = (tmp_path / "site" / "reference" / "criteria" / "snip" / "index.html").read_text(encoding="utf-8")

    assert 50 < len(pages)
    assert loaded.addresses
    assert [] == [address for address in loaded.addresses if re.match(r"\w+:|//", address)]
    assert "Sequence" in interface, "signatures show types"
    assert "<mfrac>" in formula
    assert "$$" not in formula


def test_the_api_page_names_everything_public() -> None:
    """Each name of `autosparse` and `autosparse.api` has its docstring on the page."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    shown = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}

    assert {*autosparse.__all__, *autosparse.api.__all__} - {"__version__"} <= shown
    assert "__version__" in page


def test_every_page_is_in_the_navigation() -> None:
    """Strict builds report pages outside it; this test needs no mkdocs."""
    text = re.sub(r"!ENV (\[.*\])", r"\1", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def files(part: object) -> list[str]:
        if isinstance(part, dict):
            part = [*part.values()]
        return [part] if isinstance(part, str) else [name for inner in part for name in files(inner)]  # type: ignore[attr-defined]

    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == {*files(yaml.safe_load(text)["nav"])}


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        ("x", "<mi>x</mi>"),
        ("w^2", "<msup><mi>w</mi><mn>2</mn></msup>"),
        (r"\frac{a}{b}", "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>"),
        (r"\theta_{t+1}", "<msub><mi>θ</mi><mrow><mi>t</mi><mo>+</mo><mn>1</mn></mrow></msub>"),
        (r"\text{rounds, then rank}", "<mtext>rounds, then rank</mtext>"),
        (r"\sum_i^n x", "<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>x</mi>"),
        ("a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
    ],
)
def test_formulas_become_mathml(tex: str, expected: str) -> None:
    """Fractions, scripts, Greek letters, text and limits."""
    assert f'<math display="inline"><mrow>{expected}</mrow></math>' == hook().mathml(tex)


@pytest.mark.parametrize("tex", [r"\unknown", r"\frac{a", "{a", "a}", "^2"])
def test_other_formulas_are_refused(tex: str) -> None:
    """A formula that the site cannot show fails the build instead of showing TeX."""
    with pytest.raises(ValueError, match=r"."):
        hook().mathml(tex)


def test_code_keeps_its_dollars() -> None:
    """Only formulas change: not shell prompts, prices in code, or blocks."""
    text = "`a$b$c`\n\n```text\n$ autosparse run\n$x$\n```\n\nand $x$"

    assert text.replace("and $x$", 'and <math display="inline"><mrow><mi>x</mi></mrow></math>') == (
        hook().on_page_markdown(text)
    )
