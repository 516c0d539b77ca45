"""Drawings of plans on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from autosparse.backends import Machine
from autosparse.planning.graph import draw_dot, draw_mermaid
from autosparse.planning.model import Plan
from autosparse.planning.status import Status
from tests.conftest import Workspace, call

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=False, devices=("cpu",), cuda_bfloat16=False)
Draw = Callable[[Plan, Mapping[str, Status]], str]
NODE: dict[Draw, re.Pattern[str]] = {
    draw_dot: re.compile(r'^    (n\d+) \[label="((?:[^"\\]|\\.)*)", style="([a-z,]+)"', re.MULTILINE),
    draw_mermaid: re.compile(r'^    (n\d+)\["([^"]*)"\]()$', re.MULTILINE),
}
EDGE = re.compile(r"^  (n\d+) --?> (n\d+);?$", re.MULTILINE)
DRAWINGS: list[Draw] = [draw_dot, draw_mermaid]


def test_drawings_are_printed_as_they_are(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The drawing alone is on stdout, and formats exclude each other."""
    dot, mermaid = call(capsys, "plan small.yaml --dot"), call(capsys, "plan small.yaml --mermaid")
    both = call(capsys, "plan small.yaml --dot --json")

    assert dot.out.startswith('digraph "small" {\n')
    assert dot.out.endswith("}\n")
    assert mermaid.out.startswith('---\ntitle: "small"\n---\nflowchart LR\n')
    assert (0, 0, 2) == (dot.code, mermaid.code, both.code)
    assert "exclude each other" in both.err
