"""The command `bench`."""

from __future__ import annotations

import statistics
from typing import Annotated, Any

import typer

from autosparse.backends import environment, this_machine
from autosparse.cli.app import (
    JsonOption,
    QuietOption,
    SetOption,
    SpecArgument,
    app,
    fit_loaded,
    json_text,
    load,
    say,
)
from autosparse.console import show_bench, show_text
from autosparse.cost import Bench, measure_speed
from autosparse.errors import MissingRequirement
from autosparse.plan import missing_device
from autosparse.store import Store, open_index


@app.command()
def bench(
    spec: SpecArgument = None,
    set_: SetOption = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each is measured.")] = 3,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure this machine with a spec's networks: training beside the loop that everybody writes first, scoring,
    and what of the machine's peak they reach. What plans reckon with is measured anew, and kept.
    """
    store = Store.default()
    loaded = load(spec, store, None, set_, quiet=quiet)
    fitted = fit_loaded(loaded, store, open_index(store), quiet=quiet, refit=True, timed=False)
    for problem, hint in missing_device(fitted.plan, this_machine()):
        raise MissingRequirement(problem, hint)
    found = measure_speed(
        fitted.plan,
        fitted.price,
        fitted.place,
        rounds=rounds,
        say=(lambda _: None) if quiet else say,
    )
    about = environment(fitted.place)
    if json_:
        show_text(json_text({"schema_version": 1, "machine": about, **_told(found)}))
    else:
        show_bench(found, about)


def _told(found: Bench) -> dict[str, Any]:
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
        for item in found.trained
    ]
    scored = {"model": found.largest, "weights_per_second": dict(found.scored)}
    return {"peak_operations_per_second": dict(found.peaks), "training": trained, "scoring": scored}
