"""The graph of a plan: its critical path, and its drawing as text for Graphviz or Mermaid."""

from __future__ import annotations

import heapq
import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from autosparse.planning.model import PURPOSES, Plan, Step
from autosparse.planning.status import Status

_FEW = 3  # links of a chain that are drawn one by one
_DOT = {
    "run": 'style="filled,bold", fillcolor="#fff2cc"',
    "resume": 'style="filled,bold,dashed", fillcolor="#fff2cc"',
    "reuse": 'style="filled", fillcolor="#e2f0d9"',
}
_MERMAID = {
    "run": "fill:#fff2cc,stroke:#000,stroke-width:3px,color:#000",
    "resume": "fill:#fff2cc,stroke:#000,stroke-width:3px,stroke-dasharray:5 3,color:#000",
    "reuse": "fill:#e2f0d9,stroke:#000,stroke-width:1px,color:#000",
}


def urgency(steps: Iterable[Step], seconds: Mapping[str, float]) -> dict[str, float]:
    """Map each step to the seconds until the end of the longest chain of steps that begins with it.

    Critical path scheduling: among ready steps, the most urgent runs first. `steps` are in topological order.
    """
    urgent: dict[str, float] = {}
    for step in reversed([*steps]):
        # Its consumers have set the maximum of their chains already: add its own seconds.
        urgent[step.name] = urgent.get(step.name, 0.0) + seconds.get(step.name, 0.0)
        for name in step.inputs.values():
            urgent[name] = max(urgent.get(name, 0.0), urgent[step.name])
    return urgent


def makespan(
    steps: Iterable[Step], seconds: Mapping[str, float], workers: int, *, first: Collection[str] = ()
) -> float:
    """Return the seconds until the last of `steps` is done, with `workers` that each take the most urgent ready step.

    `seconds` are those of the steps to run, by name; inputs without seconds exist already. The steps
    named by `first` run already.
    """
    chosen = [step for step in steps if step.name in seconds]
    urgent = urgency(chosen, seconds)
    chosen.sort(key=lambda step: (step.name not in first, -urgent[step.name]))  # stable: else in the plan's order
    positions = {step.name: number for number, step in enumerate(chosen)}
    needs = [{positions[name] for name in step.inputs.values() if name in positions} for step in chosen]
    serves: list[list[int]] = [[] for _ in chosen]
    for number, needed in enumerate(needs):
        for name in needed:
            serves[name].append(number)
    ready = [number for number, needed in enumerate(needs) if not needed]
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[chosen[number].name], number))
        now, done = heapq.heappop(running)
        for number in serves[done]:
            needs[number].discard(done)
            if not needs[number]:
                heapq.heappush(ready, number)
    return now


@dataclass(frozen=True)
class _Node:
    id: str
    purpose: str
    lines: tuple[str, ...]
    status: str
    inputs: tuple[str, ...]


def draw_dot(plan: Plan, statuses: Mapping[str, Status]) -> str:
    """Draw the plan in Graphviz' language: `autosparse plan --dot | dot -Tsvg > plan.svg`."""
    nodes = _nodes(plan, statuses)
    lines = [f"digraph {_quoted(plan.name)} {{", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    for number, (title, members) in enumerate(_groups(nodes)):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(title)};"]
        lines += [f"    {n.id} [label={_quoted(*n.lines)}, {_DOT[n.status]}];" for n in members]
        lines.append("  }")
    lines += [f"  {source} -> {node.id};" for node in nodes for source in node.inputs]
    return "\n".join([*lines, "}"])


def draw_mermaid(plan: Plan, statuses: Mapping[str, Status]) -> str:
    """Draw the plan in Mermaid's language, which Markdown renders in a block named `mermaid`."""
    nodes = _nodes(plan, statuses)
    lines = ["---", f"title: {json.dumps(_clean(plan.name), ensure_ascii=False)}", "---", "flowchart LR"]
    for number, (title, members) in enumerate(_groups(nodes)):
        lines.append(f'  subgraph group{number}["{_entities(title)}"]')
        lines += [f'    {node.id}["{"<br>".join(map(_entities, node.lines))}"]' for node in members]
        lines.append("  end")
    lines += [f"  {source} --> {node.id}" for node in nodes for source in node.inputs]
    for status, style in _MERMAID.items():
        if named := [node.id for node in nodes if node.status == status]:
            lines += [f"  classDef {status} {style}", f"  class {','.join(named)} {status}"]
    return "\n".join(lines)


def _nodes(plan: Plan, statuses: Mapping[str, Status]) -> list[_Node]:
    parts: dict[str, list[Step]] = {}
    for step in plan.steps.values():
        parts.setdefault(_chain(step) or step.name, []).append(step)
    groups = [g for steps in parts.values() for g in ([steps] if len(steps) > _FEW else [[step] for step in steps])]
    order = {name: number for number, name in enumerate(plan.steps)}
    groups.sort(key=lambda steps: order[steps[-1].name])
    home = {step.name: f"n{number}" for number, steps in enumerate(groups) for step in steps}
    behind: dict[str, set[str]] = {}
    nodes = []
    for number, steps in enumerate(groups):
        node_id = f"n{number}"
        inputs = [home[name] for step in steps for name in step.inputs.values()]
        sources = [other for other in dict.fromkeys(inputs) if other != node_id]
        brought = set[str]().union(*(behind.get(other, set()) for other in sources))
        behind[node_id] = {*sources, *brought}
        # Transitive inputs are not drawn: `evaluate` takes `train`, which takes all the rest.
        direct = tuple(other for other in sources if other not in brought)
        nodes.append(_Node(node_id, steps[0].purpose, _label_lines(steps, statuses), _status(steps, statuses), direct))
    return nodes


def _chain(step: Step) -> str:
    # Rounds and trials have numbers, and each follows the one before.
    return step.name.rpartition("/")[0] if "number" in step.options else ""


def _label_lines(steps: list[Step], statuses: Mapping[str, Status]) -> tuple[str, ...]:
    if len(steps) == 1:
        return steps[0].name, statuses[steps[0].name].status
    there = sum(statuses[step.name].status == "reuse" for step in steps)
    numbers = {"run": len(steps) - there, "reuse": there}
    left = ", ".join(f"{kind} {number}" for kind, number in numbers.items() if number)
    return f"{steps[0].name} ... {steps[-1].name.rpartition('/')[2]}", left


def _status(steps: list[Step], statuses: Mapping[str, Status]) -> str:
    kinds = {statuses[step.name].status for step in steps}
    return next(iter(kinds)) if len(kinds) == 1 else "resume"


def _groups(nodes: list[_Node]) -> Iterator[tuple[str, list[_Node]]]:
    for purpose, title in PURPOSES.items():
        if members := [node for node in nodes if node.purpose == purpose]:
            yield title, members


def _clean(text: str) -> str:
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in text)


def _quoted(*lines: str) -> str:
    escaped = (_clean(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _entities(text: str) -> str:
    # Labels in Mermaid contain HTML, Markdown and its `#...;`: escape all but letters, digits and common marks.
    return "".join(char if char.isalnum() or char in " /._-+:," else f"#{ord(char)};" for char in _clean(text))
