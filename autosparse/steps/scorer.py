"""scorer: the tuned scorer, learned from every example of every IRP source."""

from __future__ import annotations

from autosparse.core.scorers import scorers
from autosparse.steps import operations
from autosparse.steps.examples import check_rounds, load_examples
from autosparse.steps.work import Work, generator


@operations.register(version=1)
def scorer(work: Work, *, name: str, version: int, seed: int) -> None:
    """Fit the scorer `name` with the options that input `tune` chose; the selection that it chose goes with it."""
    tuned = work.inputs["tune"].json("result")
    options = tuned["options"]
    own, _ = scorers[name].apart(options)
    chosen = {"selection": tuned["selection"]} if "selection" in tuned else {}
    check_rounds(work, name)
    features, shares = load_examples(work)
    state = scorers[name].function(features, shares, generator("scorer", seed), work.observe, **own)
    work.output.write_tensors("state", state)
    work.output.write_json("scorer", {"name": name, "version": version, "options": options, **chosen})
