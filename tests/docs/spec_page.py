"""docs/reference/spec.md, generated from the models that validate specs."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autosparse.text import literal, table
from tests.conftest import Workspace

SECTIONS = ("Target", "Method", "Irp", "Pretrained", "Tuning", "Proxy", "Recipe", "Sanity")
PATHS = {
    "Target": "target", "Method": "method", "Irp": "irp", "Pretrained": "scorer.pretrained", "Tuning": "tuning",
    "Proxy": "tuning.proxy", "Recipe": "training", "Sanity": "sanity",
}  # fmt: skip
KINDS = {
    "models": "model", "datasets": "dataset", "presets": "method, compare", "criteria": "method.criterion",
    "allocations": "method.allocation", "selections": "method.selection", "schedules": "method.schedule",
    "repairs": "method.repair", "units": "method.unit", "scorers": "scorer", "features": "scorer.features",
    "formats": "emit", "trackers": "track", "backends": "target.backend", "controls": "controls",
    "checks": "sanity.checks",
}  # fmt: skip
STRINGS = ("10%", "99%", "100x", "5M", "500kB", "my_file.py:function", "timm:resnet26", "torchvision:resnet18")
"""Examples of strings, of which a page shows those that match a pattern."""
BEGIN = """\
<!-- `python -m tests.docs.reference` writes this page. -->

# Fields of a spec

Every field, with its default and its values. `model` and `dataset` are required.

* `autosparse schema > autosparse.schema.json` writes the JSON Schema for an editor.
* `autosparse render SPEC` prints a spec with every default and the origin of every value.
* `extends: other.yaml` reads another spec first. `--set path.to.key=value` and `--budget` on the command line apply
  last.
"""


def page() -> str:
    """Return the page."""
    schema = _output("schema")
    parts = [BEGIN, "## Top level\n", _fields(schema), ""]
    for name in SECTIONS:
        about = schema["$defs"][name]
        text = about.get("description", "").strip()
        parts += [f"## `{PATHS[name]}`\n", *([f"{text}\n"] if text else []), _fields(about), ""]
    parts.append("## Choices\n")
    for kind, path in KINDS.items():
        items = _output("list", kind, "--json")["items"]
        rows = [
            (f"`{literal(item['name'])}`", _plain(item["help"]), _options(item["options"]), _plain(item["source"]))
            for item in items
        ]
        kept = [column for column in range(4) if column < 2 or any(row[column] for row in rows)]
        titles = ("name", "description", "choices" if kind in ("presets", "controls") else "options", "source")
        parts += [
            f"### {kind.capitalize()}: `{path}`\n",
            table([titles[c] for c in kept], [[r[c] for c in kept] for r in rows]),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def _output(*command: str) -> Any:
    # In another process, where no test has registered anything.
    with tempfile.TemporaryDirectory() as folder:
        ended = Workspace(Path(folder)).run(*command)
    assert 0 == ended.code, ended.err
    return ended.json


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
    return table(("field", "default", "values", "description"), rows)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    # Those of the long form, for a section that also has a short one.
    properties: Mapping[str, Any] = schema.get("properties") or next(
        one["properties"] for one in schema["anyOf"] if "properties" in one
    )
    return properties


def _default(field: Mapping[str, Any], required: bool) -> str:
    if "default" in field:
        return f"`{literal(json.dumps(field['default'], ensure_ascii=False))}`"
    return "required" if required else ""


def _kinds(field: Mapping[str, Any]) -> str:
    kinds = list(dict.fromkeys(_kind(field)))
    return ", ".join(kinds) if len(kinds) < 9 else f"{', '.join(kinds[:8])}, ..."


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
        yield _section(PATHS[name]) if name in PATHS else "`{name: ..., options}`"
    elif field.get("type") == "array":
        yield "list"
    elif "pattern" in field:
        examples = [f"`{text}`" for text in STRINGS if re.search(field["pattern"], text)]
        yield f"string such as {' or '.join(examples)}" if examples else "string"
    elif "type" in field:
        kinds = {"number": "number", "integer": "integer", "string": "string", "boolean": "`true` or `false`",
                 "object": "mapping", "null": "`null`"}  # fmt: skip
        yield f"{kinds[field['type']]} {reach}".strip()


def _section(path: str) -> str:
    anchor = re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", path.lower()))
    return f"section [`{path}`](#{anchor})"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _options(text: str) -> str:
    return f"`{literal(text)}`" if text else ""
