"""docs/reference/json: JSON Schemas of what commands print with `--json`, made from what they print.

`python -m tests.docs.outputs` writes them again: in the difference is what readers of an output will have to know.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autosparse.store.sealed import seal
from tests.conftest import SMALL, Workspace

FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "json"
FIXTURES = Path(__file__).parents[1] / "fixtures"
REPORTS = sorted((FIXTURES / "runs").glob("*/report.json"))
INCOMPLETE = {path.stem: path for path in sorted((FIXTURES / "incomplete").glob("*.json"))}
"""Output -> a document that the command printed when some of its steps failed."""
COMMANDS: Mapping[str, Sequence[str]] = {
    "plan": [
        "plan small.yaml --json",
        "plan small.yaml --set irp.rounds=9 --set target.backend=ray --json",
        "plan small.yaml --scan --json",
        "plan small.yaml --budget 0.9 --budget parameters=600 --budget macs=30% --budget bytes=4x --json",
    ],
    "explain": ["plan small.yaml --explain tune --json", "plan small.yaml --set seeds=7 --explain tune --json"],
    "run": ["run small.yaml --json", "report --json"],
    "made": [f"run small.yaml --set seeds=7 --only {steps} --json" for steps in ("data/*", "init/*")],
    "runs": ["runs --json"],
    "compare": ["compare runs/small-1 runs/small-1 --json"],
    "study": ["study small.yaml --vary method=erk,snip --json"],
    "study-plan": ["study small.yaml --vary method=erk,snip --plan --json"],
    "export": ["export runs/small-1 --format compact --budget 0.8 --json"],
    "export-checkpoint": [
        "export --checkpoint runs/small-1/models/learned-0.8-seed0/safetensors/model.safetensors --model small.yaml "
        "--format compact --out served --json"
    ],
    "inspect": ["inspect runs/small-1/models/learned-0.8-seed0/safetensors --json"],
    "list": ["list criteria --json", "list formats --json", "list presets --json"],
    "kinds": ["list --json"],
    "doctor": ["doctor --json", "doctor --no-test --json"],
    "cache-ls": ["cache ls --json"],
    "cache-gc": ["cache gc --dry-run --json"],
    "cache-push": ["cache push small.yaml shared --json", "cache pull small.yaml shared --json"],
    "cache-verify": ["cache verify --json"],
    "validate": ["validate small.yaml --json"],
    "render": ["render small.yaml --json"],
}
"""Output -> commands that print it, in a folder where small.yaml has been run."""
REFUSED = {"validate": "validate small.yaml nowhere.yaml --set seeds=[-1] --set training.lrr=1 --json"}
"""Output -> a command that prints errors and exits with code 2."""
MAPS = {
    "speeds", "cost", "environment", "importances", "inputs", "options", "provenance", "settings", "tuned",
    "unprunable", "computed", "accuracy", "resolved", "values", "chosen", "recipe", "budgets", "accuracies", "statuses",
    "modes", "classes", "limits",
}  # fmt: skip
"""Names of mappings whose own names are data: step names, options, layers."""
ANYTHING = {"options", "recipe", "resolved", "values"}
"""Names of mappings with values of any type."""


def prepare(workspace: Workspace) -> None:
    """Next to the finished run, a stopped one with a tag."""
    stopped = workspace.folder / "runs" / "small-2"
    shutil.copytree(workspace.folder / "runs" / "small-1", stopped)
    (stopped / "report.json").unlink()
    (stopped / "tags.json").write_bytes(seal({"tags": ["first"]}))


def schema_of(values: Iterable[Any], name: str = "") -> dict[str, Any]:
    """Return the JSON Schema that all of these values satisfy."""
    result: list[Any] = list(values)
    several = {_kind(value) for value in result}
    kinds = sorted(several - ({"integer"} if "number" in several else set()))
    if kinds == ["null"]:  # what it may be else is not seen
        return {}
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    objects = [value for value in result if isinstance(value, dict)]
    lists = [value for value in result if isinstance(value, list)]
    if objects and name in MAPS and "digest" not in objects[0]:  # a report's `provenance` has fixed names
        if parts := [part for one in objects for part in one.values()]:
            schema["additionalProperties"] = {} if name in ANYTHING else schema_of(parts)
    elif objects:
        names = list(dict.fromkeys(key for one in objects for key in one))
        schema["properties"] = {key: schema_of([one[key] for one in objects if key in one], key) for key in names}
        schema["required"] = [key for key in names if all(key in one for one in objects)]
        schema["additionalProperties"] = False
    if name == "doctor":
        schema["patternProperties"] = {"^extra ": {"type": "string"}}
        schema["properties"] = {key: one for key, one in schema["properties"].items() if not key.startswith("extra ")}
        schema["required"] = [key for key in schema["required"] if not key.startswith("extra ")]
    if lists and name != "values":
        schema["items"] = schema_of([part for one in lists for part in one], name)
    return {"const": result[0]} if name == "schema_version" else schema


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}
    return "null" if value is None else kinds[type(value)]


def write(workspace: Workspace) -> None:
    """Run all commands and write what holds for what they print."""
    FOLDER.mkdir(exist_ok=True)
    prepare(workspace)
    for name, lines in COMMANDS.items():
        printed = [workspace.run(*line.split()).json for line in lines]
        if name == "run":
            printed += [json.loads(file.read_text(encoding="utf-8")) for file in REPORTS]
        if name in REFUSED:
            printed.append(workspace.run(*REFUSED[name].split()).json)
        if name in INCOMPLETE:
            printed.append(json.loads(INCOMPLETE[name].read_text(encoding="utf-8")))
        head = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"Output of `autosparse {lines[0]}`",
        }
        text = json.dumps({**head, **schema_of(printed, name)}, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        (workspace.folder / "small.yaml").write_text(SMALL)
        workspace.run("run", "small.yaml")
        write(workspace)
