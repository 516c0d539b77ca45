"""docs/reference/json.md, the index of the JSON Schemas of outputs."""

from __future__ import annotations

from autosparse.text import table
from tests.docs.outputs import COMMANDS

BEGIN = """\
<!-- `python -m tests.docs.reference` writes this page. -->

# JSON output

Commands with `--json` print one JSON document on stdout. Every document has a `schema_version`, which rises when a
field changes its meaning or goes away. The schemas are [JSON Schema](https://json-schema.org) documents, version
2020-12. A test compares them with the output of every command.
"""
END = """
`autosparse schema` prints the schema of specs themselves.

## An example

```sh
autosparse report digits-1 --json
```

The document has the fields of [run.schema.json](json/run.schema.json). A run's directory holds the same document:

```python
import json
from pathlib import Path

report = json.loads(Path("runs/digits-1/report.json").read_text())
for result in report["results"]:
    print(result["method"], result["sparsity"], result["test_accuracy"])
```
"""
ABOUT = {
    "plan": "steps with keys, status, reasons and costs",
    "explain": "the reasons for which one step runs, back to their origin",
    "run": "results, controls, scorer, exported models and warnings of a run",
    "made": "artifacts of a run that leaves its plan unfinished",
    "runs": "the runs of a directory",
    "compare": "differences between runs, with their significance",
    "study": "accuracy for each value of one option",
    "study-plan": "the steps that a study would run",
    "export": "models that an export wrote",
    "export-checkpoint": "the models that `export --checkpoint` wrote",
    "inspect": "layers, sparsity and provenance of an exported model",
    "list": "the names that a spec can use, with their options",
    "kinds": "the kinds of names that `autosparse list` takes",
    "doctor": "this machine and its self-test",
    "cache-ls": "artifacts in the cache",
    "cache-gc": "artifacts that garbage collection deletes",
    "cache-push": "artifacts that a push or a pull copied",
    "cache-verify": "artifacts whose digests differ",
    "validate": "valid specs, and the problems of all others",
    "render": "a spec with every value and its origin",
}
"""Name of a schema -> its content."""


def json_page() -> str:
    """Return the page."""
    rows = [
        (f"[{name}](json/{name}.schema.json)", ABOUT[name], f"`autosparse {lines[0]}`")
        for name, lines in COMMANDS.items()
    ]
    return "\n".join([BEGIN, table(("schema", "content", "example"), rows)]) + "\n" + END
