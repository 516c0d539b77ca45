"""Drawings of plans: every step is in them, in its group, with its status, and no name breaks them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.backends import Machine
from autosparse.planning.compile import compile_plan
from autosparse.planning.graph import draw_dot, draw_mermaid
from autosparse.planning.model import PURPOSES, Plan
from autosparse.planning.status import Status
from autosparse.spec import load_spec, resolve
from tests.conftest import SMALL

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=False, devices=("cpu",), cuda_bfloat16=False)
Draw = Callable[[Plan, Mapping[str, Status]], str]
NODE: dict[Draw, re.Pattern[str]] = {
    draw_dot: re.compile(r'^    (n\d+) \[label="((?:[^"\\]|\\.)*)", style="([a-z,]+)"', re.MULTILINE),
    draw_mermaid: re.compile(r'^    (n\d+)\["([^"]*)"\]()$', re.MULTILINE),
}
EDGE = re.compile(r"^  (n\d+) --?> (n\d+);?$", re.MULTILINE)
DRAWINGS: list[Draw] = [draw_dot, draw_mermaid]


def plan(folder: Path, *overrides: str, name: str = "small") -> Plan:
    """The plan of the small spec, with overrides."""
    (folder / "small.yaml").write_text(SMALL)
    return compile_plan(resolve(load_spec(folder / "small.yaml", overrides=overrides).spec, MACHINE), name)


def all_of(plan: Plan, status: str) -> dict[str, Status]:
    """One status for every step."""
    return {name: Status(status, "as the test says") for name in plan.steps}


def labels(draw: Draw, text: str) -> dict[str, str]:
    """Return node -> label."""
    return {match[0]: match[1] for match in NODE[draw].findall(text)}


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_step_is_a_node_in_its_group(tmp_path: Path, draw: Draw) -> None:
    """Each step is drawn once, with its status in words, and each purpose is a titled group."""
    small = plan(tmp_path)
    text = draw(small, all_of(small, "reuse"))

    written = sorted(re.split(r"\\n|<br>", label)[0] for label in labels(draw, text).values())
    assert sorted(small.steps) == written
    assert all(label.endswith("reuse") for label in labels(draw, text).values())
    used = {step.purpose for step in small.steps.values()}
    assert all(title in text for purpose, title in PURPOSES.items() if purpose in used)
    assert len(used) == text.count("subgraph")


@pytest.mark.parametrize("draw", DRAWINGS)
def test_edges_are_the_inputs_that_nothing_else_brings(tmp_path: Path, draw: Draw) -> None:
    """Whatever a step depends on, however far, can be reached in the drawing, and no edge is superfluous."""
    small = plan(tmp_path)
    text = draw(small, all_of(small, "run"))
    step_of = {node: re.split(r"\\n|<br>", label)[0] for node, label in labels(draw, text).items()}
    drawn: dict[str, set[str]] = {name: set() for name in small.steps}
    for chosen, node in EDGE.findall(text):
        drawn[step_of[node]].add(step_of[chosen])

    def behind(name: str, inputs: Mapping[str, set[str]]) -> set[str]:
        return inputs[name].union(*(behind(other, inputs) for other in inputs[name]))

    planned = {name: set(step.inputs.values()) for name, step in small.steps.items()}
    for name in small.steps:
        assert behind(name, planned) == behind(name, drawn)
        assert drawn[name] <= planned[name]
        assert not any(one in behind(other, drawn) for one in drawn[name] for other in drawn[name])


@pytest.mark.parametrize("draw", DRAWINGS)
def test_long_chains_are_one_node(tmp_path: Path, draw: Draw) -> None:
    """More than a few rounds or trials are drawn as one, which says how many of them are to run."""
    long = plan(tmp_path, "irp.rounds=16", "tuning.trials=40", "irp.seeds=[100, 101]")
    by_step = all_of(long, "run") | {f"irp/seed100/round{n}": Status("reuse", "there") for n in range(1, 6)}
    text = draw(long, by_step)
    separator = "\\n" if draw is draw_dot else "<br>"

    written = labels(draw, text).values()
    assert f"irp/seed100/round1 ... round16{separator}run 11, reuse 5" in written
    assert f"irp/seed101/round1 ... round16{separator}run 16" in written
    assert f"trial/0 ... 39{separator}run 40" in written
    assert 1 == sum("label/seed100" in label for label in written)
    assert all(one != other for one, other in EDGE.findall(text))


def test_statuses_differ_without_colour(tmp_path: Path) -> None:
    """Run, resume and reuse have different lines, in addition to the word."""
    small = plan(tmp_path)
    styles = {
        status: {by_step[2] for by_step in NODE[draw_dot].findall(draw_dot(small, all_of(small, status)))}
        for status in ("run", "resume", "reuse")
    }

    assert all(len(by_step) == 1 for by_step in styles.values())
    assert 3 == len(set.union(*styles.values()))
    for status in styles:
        mermaid = draw_mermaid(small, all_of(small, status))
        assert f"  class {','.join(f'n{n}' for n in range(len(small.steps)))} {status}" in mermaid


@pytest.mark.parametrize(
    "name", ['a"b', "back\\", "<b>x</b>", "#quot;", "];x[", "line\nbreak", "`tick`", "名前", "--> n0"]
)
def test_no_name_breaks_a_drawing(tmp_path: Path, name: str) -> None:
    """Quotes, entities, brackets and control characters in names stay inside the labels."""
    small = plan(tmp_path, name=name)
    steps = {key: replace(step, name=f"{name}/{key}") for key, step in small.steps.items()}
    renamed = replace(small, steps={step.name: replace(step, inputs={}) for step in steps.values()})
    dot, mermaid = (draw(renamed, all_of(renamed, "run")) for draw in (draw_dot, draw_mermaid))

    plain = draw_dot(small, all_of(small, "run"))
    assert len(labels(draw_dot, plain)) == len(labels(draw_dot, dot)) == len(labels(draw_mermaid, mermaid))
    for label in labels(draw_mermaid, mermaid).values():
        assert re.fullmatch(r"[\w /.:+,?-]*(?:#\d+;[\w /.:+,?-]*)*<br>run", label)
    assert "line\nbreak" not in dot + mermaid
    for label in labels(draw_dot, dot).values():
        inner = label.removesuffix("\\nrun").replace('\\"', '"').replace("\\\\", "\\")
        assert inner.startswith(name.replace("\n", "?"))
