"""docs/spec.md, made from the models: `python -m tests.docs.reference` writes it again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autosparse.text import literal, table
from tests.conftest import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "spec.md"
SECTIONS = ("Target", "Method", "Irp", "Pretrained", "Tuning", "Proxy", "Recipe", "Sanity")
PLACES = {
    "Target": "target", "Method": "method", "Irp": "irp", "Pretrained": "scorer: {pretrained: ...}", "Tuning": "tuning",
    "Proxy": "tuning.proxy", "Recipe": "training", "Sanity": "sanity",
}  # fmt: skip
KINDS = {
    "models": "model", "datasets": "dataset", "presets": "method, compare", "criteria": "method.criterion",
    "allocations": "method.allocation", "selections": "method.selection", "schedules": "method.schedule",
    "repairs": "method.repair", "scorers": "scorer", "features": "scorer.features", "formats": "emit",
    "trackers": "track",
    "backends": "target.backend", "controls": "controls", "checks": "sanity.checks",
}  # fmt: skip
BEGIN = """\
# The spec, field by field

Made from the models that validate specs, by `python -m tests.docs.reference`; a test compares. `autosparse schema`
prints the JSON Schema for an editor, `autosparse render SPEC` a spec with every default filled in and where each value
came from. Everything but `model` and `dataset` has a default.

`extends: other.yaml` takes another spec's values first; `--set path.to.key=value` and `--budget` on the command line
come last.
"""


def printed(*command: str) -> Any:
    """Return what a command prints with `--json`, in a fresh process: nothing else is registered there."""
    with tempfile.TemporaryDirectory() as folder:
        ended = Workspace(Path(folder)).run(*command)
    assert 0 == ended.code, ended.err
    return ended.json


def page() -> str:
    """The whole page."""
    schema = printed("schema")
    parts = [BEGIN, "## Top level\n", _fields(schema), ""]
    for name in SECTIONS:
        about = schema["$defs"][name]
        text = about.get("description", "").strip()
        parts += [f"## `{PLACES[name]}`\n", *([f"{text}\n"] if text else []), _fields(about), ""]
    parts.append("## Choices\n")
    for kind, workspace in KINDS.items():
        results = printed("list", kind, "--json")["items"]
        rows = [
            (f"`{literal(item['name'])}`", _plain(item["help"]), _options(item["options"]), _plain(item["source"]))
            for item in results
        ]
        kept = [column for column in range(4) if column < 2 or any(row[column] for row in rows)]
        titles = ("name", "what it is", "choices" if kind in ("presets", "controls") else "options", "source")
        parts += [
            f"### {kind.capitalize()}: `{workspace}`\n",
            table([titles[c] for c in kept], [[r[c] for c in kept] for r in rows]),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def _fields(schema: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            _default(field, name in schema.get("required", ())),
            _kinds(field),
            _plain(field.get("description", "")),
        )
        for name, field in _properties(schema).items()
        if name != "extends"
    ]
    return table(("field", "default", "values", "what it is"), rows)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    # Of a section that may be written in short, those of its long form.
    properties: Mapping[str, Any] = schema.get("properties") or next(
        one["properties"] for one in schema["anyOf"] if "properties" in one
    )
    return properties


def _default(field: Mapping[str, Any], required: bool) -> str:
    if "default" in field:
        return f"`{literal(json.dumps(field['default'], ensure_ascii=False))}`"
    return "required" if required else ""


def _kinds(field: Mapping[str, Any]) -> str:
    result = list(dict.fromkeys(_kind(field)))
    return ", ".join(result) if len(result) < 9 else f"{', '.join(result[:8])}, ..."


def _kind(field: Mapping[str, Any]) -> Iterator[str]:
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    reach = " ".join(f"{sign} {field[name]:g}" for name, sign in limits.items() if name in field)
    if "anyOf" in field or "oneOf" in field:
        for one in field.get("anyOf", field.get("oneOf")):
            yield from _kind({**{name: field[name] for name in limits if name in field}, **one})
    elif "enum" in field:
        yield from (f"`{value}`" for value in field["enum"])
    elif "const" in field:
        yield f"`{field['const']}`"
    elif "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield f"a section, see `{PLACES[name]}`" if name in PLACES else "a name with options"
    elif field.get("type") == "array":
        yield "a list"
    elif "pattern" in field:
        yield "a text of a certain form"
    elif "type" in field:
        kinds = {"number": "a number", "integer": "a whole number", "string": "a text", "boolean": "true or false",
                 "object": "a mapping", "null": "nothing"}  # fmt: skip
        yield f"{kinds[field['type']]} {reach}".strip()


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _options(text: str) -> str:
    return f"`{literal(text)}`" if text else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
