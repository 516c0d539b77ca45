"""Commands `list`, `doctor` and `bench`."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from autosparse.api import self_test
from autosparse.backends import (
    Limits,
    Placement,
    available_memory,
    backends,
    environment,
    free_processes,
    is_busy,
    memory_of,
    missing_extras,
    system_load,
    this_machine,
    this_process,
)
from autosparse.cli import options
from autosparse.cli.app import SpecRequest, app, check_known, fit_loaded, load, say, show_json
from autosparse.cli.help import Command, examples
from autosparse.console.format import show_table, show_text
from autosparse.console.models import show_bench
from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.features import feature_groups
from autosparse.core.graph.repair import repairs
from autosparse.core.presets import CONTROLS, OF_TICKETS, PRESETS, SMALLER
from autosparse.core.sanity import CHECKS
from autosparse.core.schedule import schedules
from autosparse.core.scorers import scorers
from autosparse.core.selection import selections
from autosparse.core.training.update_rules import update_rules
from autosparse.core.units import units
from autosparse.cost.bench import Bench, measure_speed
from autosparse.datasets import datasets
from autosparse.errors import MissingRequirement, StepError
from autosparse.exporters import exporters
from autosparse.models import models
from autosparse.packaged import about_shipped, shipped
from autosparse.planning.status import missing_device
from autosparse.pretrained import pretrained_scorers
from autosparse.store import Store, open_index
from autosparse.text import size
from autosparse.trackers import trackers


@app.command(cls=Command, epilog=examples("bench my.yaml", "bench my.yaml --set training.precision=float32"))
def bench(
    spec: options.Spec = None,
    set_: options.Set = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Measurements of each loop.")] = 3,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the speed of training and scoring, and recalibrate the cost model.

    The networks are those of the spec. Training is compared with a standard PyTorch loop (DataLoader, NCHW, float32)
    and with the peak of the machine.
    """
    store = Store.default()
    loaded = load(SpecRequest(spec, overrides=set_, quiet=quiet), store)
    fitted = fit_loaded(loaded, store, open_index(store), quiet=quiet, refit=True, timed=False)
    for problem, hint in missing_device(fitted.plan, this_machine()):
        raise MissingRequirement(problem, hint)
    hear = (lambda _: None) if quiet else say
    speed = measure_speed(fitted.plan, fitted.price, fitted.placement, rounds=rounds, say=hear)
    about = environment(fitted.placement)
    if json_:
        show_json({"schema_version": 1, "machine": about, **_speed_json(speed)})
    else:
        show_bench(speed, about)


def _speed_json(speed: Bench) -> dict[str, Any]:
    trained = [
        {
            "model": item.model,
            "batch": item.batch,
            "precision": item.precision,
            "images_per_second": statistics.median(item.rates),
            "plain_images_per_second": statistics.median(item.plain),
            "ratio": item.ratio,
            "rounds": [list(pair) for pair in zip(item.plain, item.rates, strict=True)],
            "operations_per_second": item.operations,
            "share_of_peak": item.share,
        }
        for item in speed.trained
    ]
    scored = {"model": speed.largest, "weights_per_second": dict(speed.scored)}
    return {"peak_operations_per_second": dict(speed.peaks), "training": trained, "scoring": scored}


_LISTS: dict[str, Any] = {
    registry.plural: registry
    for registry in (
        models, datasets, criteria, allocations, selections, schedules, repairs, units, update_rules, scorers,
        feature_groups, exporters, trackers, backends,
    )
}  # fmt: skip
_METHODS = {"presets": PRESETS, "controls": {**CONTROLS, **OF_TICKETS, **SMALLER}}
_KINDS = (*_LISTS, *_METHODS, "checks", "specs", "templates")


def _kinds(incomplete: str) -> list[str]:
    return options.beginning(_KINDS, incomplete)


@app.command("list", cls=Command, epilog=examples("list models", "list criteria --json"))
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"One of {', '.join(_KINDS)}.", autocompletion=_kinds),
    ] = None,
    json_: options.Json = False,
) -> None:
    """List the names that a spec can use; without KIND, the kinds."""
    if kind is None:
        if json_:
            show_json({"schema_version": 1, "kinds": list(_KINDS)})
        else:
            show_text("\n".join(_KINDS))
        return
    check_known(kind, _KINDS, f"there is no kind `{kind}`", "kinds")
    rows = _rows(kind)
    if json_:
        items = [dict(zip(("name", "help", "options", "source"), row, strict=True)) for row in rows]
        show_json({"schema_version": 1, "kind": kind, "items": items})
        return
    titles = ["name", "what it is", "choices" if kind in _METHODS else "options", "source"]
    shown = [index for index in range(len(titles)) if index < 2 or any(row[index] for row in rows)]
    show_table([titles[index] for index in shown], [[row[index] for index in shown] for row in rows])


def _rows(kind: str) -> list[tuple[str, str, str, str]]:
    # Rows of name, help, options or choices, and source.
    if kind in _METHODS:
        return [
            (name, text, ", ".join(f"{part} {_written(choice)}" for part, choice in choices.items()), "")
            for name, (text, choices) in _METHODS[kind].items()
        ]
    rows = []
    for entry in _LISTS.get(kind, ()):
        written = (o.name if o.required else f"{o.name}={o.default}" for o in entry.options.values())
        rows.append((entry.name, entry.help, ", ".join(written), entry.facts.get("source", "")))
    more: dict[str, str] = {}
    if kind == "scorers":
        more = {f"{{pretrained: {name}}}": "A bundled scorer." for name in pretrained_scorers()}
        more["{pretrained: FOLDER}"] = "The scorer of a finished run, runs/NAME-N/scorer."
    elif kind == "checks":
        more = CHECKS
    elif kind not in _LISTS:
        more = {name: about_shipped(file) for name, file in shipped(kind).items()}
    return [*rows, *((name, text, "", "") for name, text in more.items())]


@app.command(cls=Command, epilog=examples("doctor", "doctor --no-test --json"))
def doctor(
    test: Annotated[bool, typer.Option(help="Prune and train a small network, in seconds.")] = True,
    json_: options.Json = False,
) -> None:
    """Check this machine and run a self-test; exit with code 1 if it fails.

    Cores, threads, memory and processes have the source of their limit: the machine, the affinity, a control group of
    a container or a cluster's job, `ulimit`, or a variable of OpenMP.
    """
    store = Store.default()
    machine, limits = this_machine(), this_process()
    placement = Placement(machine.devices[0], limits.threads.value)
    free = shutil.disk_usage(next((p for p in (store.root, *store.root.parents) if os.path.exists(p)), store.root)).free
    facts: dict[str, Any] = {
        **environment(placement),
        "devices": ", ".join(machine.devices),
        "precision": "bfloat16" if machine.bfloat16(placement.device) else "float32",
        "memory_bytes": memory_of(placement.device),
        "memory_available_bytes": available_memory(),
        "limits": asdict(limits),
        "processes_available": free_processes(),
        "load": {"average": round(system_load(), 2), "busy": is_busy()},
        "cache": str(store.root),
        "cache_size_bytes": sum(artifact.size for artifact in store.artifacts()),
        "cache_free_bytes": free,
    }
    facts |= {f"extra {name}": f"not installed: {command}" for name, command in missing_extras().items()}
    tested = self_test(placement.device) if test else None
    if json_:
        show_json({"schema_version": 1, **facts, "self_test": tested and asdict(tested)})
    else:
        if tested:
            facts["self-test"] = f"failed: {tested.problem}" if tested.problem else f"passed in {tested.seconds:.1f} s"
        show_table(["item", "value"], _limited(facts, limits))
    if tested and tested.problem:
        hint = "install torch and torchvision of versions that belong together"
        raise StepError(f"the self-test failed on {placement.device}: {tested.problem}", hint)


def _limited(facts: Mapping[str, Any], limits: Limits) -> list[tuple[str, str]]:
    """Return the rows of the table: every limit with its source, next to the amount that it limits."""
    load, free = facts["load"], facts["processes_available"]
    busy = ", busy: other processes want every core" if load["busy"] else ""
    processes = limits.processes
    words = {
        "threads": {
            "threads": f"{limits.threads.value} ({limits.threads.source})",
            "cores": f"{limits.cores.value} ({limits.cores.source})",
        },
        "limits": {
            "memory limit": f"{size(limits.memory.value)} ({limits.memory.source})",
            "processes": f"{processes.value} ({processes.source}), {free} free" if processes else "no limit",
        },
        "load": {"load": f"{load['average']:.2f}{busy}"},
        "processes_available": {},
    }
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        shown = size(value) if name.endswith("_bytes") else str(value)
        rows += words.get(name, {name.removesuffix("_bytes").replace("_", " "): shown}).items()
    return rows


def _written(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    options = [f"{name}={value}" for name, value in choice.items() if name != "name"]
    return f"{choice['name']} ({', '.join(options)})" if options else str(choice["name"])
