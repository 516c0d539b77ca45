"""Commands `init`, `validate`, `schema` and `render`: specs, without running anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from autosparse.backends import this_machine
from autosparse.cli import options
from autosparse.cli.app import SpecRequest, app, check_known, load, refuse_plan, say, show_json
from autosparse.cli.help import Command, examples
from autosparse.console.format import show_table, show_text
from autosparse.cost.time_limit import remembered_settings, remembered_trials
from autosparse.errors import Problem, SpecError, UsageError
from autosparse.packaged import about_shipped, shipped
from autosparse.report.folder import write_file
from autosparse.spec import FILE, find_spec, load_spec, provenance, resolve, spec_schema, with_settings
from autosparse.store import Store
from autosparse.store.files import occupied
from autosparse.text import shell_word


@app.command(cls=Command, epilog=examples("init my.yaml", "init photos.yaml --template folder"))
def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path(FILE),
    template: Annotated[
        str, typer.Option(metavar="NAME", help="The template.", autocompletion=options.template_names)
    ] = "quickstart",
    list_: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented spec and the code that it names."""
    templates = shipped("templates")
    if list_:
        show_table(["template", "use"], [(name, about_shipped(file)) for name, file in templates.items()])
        return
    check_known(template, templates, f"there is no template `{template}`", "templates")
    code = templates[template].with_suffix(".py")
    sources = {path: templates[template], **({path.parent / code.name: code} if code.exists() else {})}
    files = {file: source.read_bytes() for file, source in sources.items()}
    if (there := occupied(files)) and not force:
        raise UsageError(f"{there} is already there", "name another file, or overwrite it with `--force`")
    for file, data in files.items():
        write_file(file, data, hint=None)
    load_spec(path)
    show_text("\n".join(f"wrote {file}" for file in files))
    say(f"next: `autosparse plan {shell_word(path)}`, then `autosparse run {shell_word(path)}`")


@app.command(cls=Command, epilog=examples("validate my.yaml", "validate specs/*.yaml --json"))
def validate(
    specs: Annotated[
        list[str] | None, typer.Argument(metavar="SPEC...", help="Spec files; without any, the last used.")
    ] = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """Report every mistake of specs, without running anything."""
    store = Store.default()
    errors: list[Problem] = []
    valid: list[str] = []
    names: Sequence[str | None] = specs or [None]
    for name in names:
        path = ""
        try:
            path = str(find_spec(name, store).path)
            refuse_plan(Path(path))
            load_spec(Path(path), overrides=set_ or (), budget=budget or ())
            valid.append(path)
        except SpecError as error:
            errors += error.errors
        except UsageError as error:
            message = error.message.replace(f"{path} ", "it ", 1) if path else error.message
            errors.append(Problem(message, error.hint, path))
    errors = [*dict.fromkeys(errors)]  # an option's mistake is the same in every spec
    if json_:
        show_json({"schema_version": 1, "valid": valid, "errors": [_error_json(error) for error in errors]})
        if errors:
            raise typer.Exit(2)
    else:
        for path in valid:
            show_text(f"{path} is valid")
        if errors:
            raise SpecError.listing(errors)


def _error_json(error: Problem) -> dict[str, Any]:
    return {name: value or None for name, value in asdict(error).items()}


@app.command(cls=Command, epilog=examples("schema > autosparse.schema.json"))
def schema() -> None:
    """Print the JSON Schema of specs for editors and CI."""
    show_json(spec_schema())


@app.command(cls=Command, epilog=examples("render my.yaml", "render my.yaml --budget 99% --json"))
def render(
    spec: options.Spec = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print a spec with every value and its origin."""
    store = Store.default()
    loaded = load(SpecRequest(spec, budget, set_, quiet=quiet), store, remember=False)
    limited = remembered_trials(loaded.spec, store)
    chosen = remembered_settings(loaded.spec, store)
    resolved = resolve(with_settings(loaded.spec, chosen), this_machine()).model_dump(mode="json")
    origins = provenance(resolved, loaded.document) | {
        path: "chosen to fit `tuning.time`" if path in limited else "chosen to fit `target.time`" for path in chosen
    }
    if json_:
        show_json({"resolved": resolved, "provenance": origins})
    else:
        show_text("\n".join(_lines(resolved, origins)))


def _lines(value: Any, origins: Mapping[str, str], path: str = "", depth: int = 0) -> Iterator[str]:
    for key, inner in value.items():
        dotted = f"{path}.{key}" if path else key
        if isinstance(inner, dict) and inner:
            yield f"{'  ' * depth}{key}:"
            yield from _lines(inner, origins, dotted, depth + 1)
        else:
            origin = f"  # {origins[dotted]}" if dotted in origins else ""
            yield f"{'  ' * depth}{key}: {json.dumps(inner, ensure_ascii=False)}{origin}"
