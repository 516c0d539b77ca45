"""`method: auto`: chosen by validation accuracy among the compared methods with results, within `target.time`."""

from __future__ import annotations

import pytest

from autosparse.errors import FitError
from autosparse.spec import load_spec
from tests.conftest import Workspace, call

SPEC = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: [0.3, 0.5]
method: auto
target: {device: cpu, threads: 1}
training: {epochs: 3, batch: 64, lr: 0.1, crop: 0, flip: false, precision: float32}
compare: [igq, {name: narrow, preset: random, allocation: global}, dense]
controls: []
emit: []
seeds: [0, 1]
"""


def test_the_best_on_validation_images_is_taken(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is chosen without results; then the best, and again the same; the limit excludes slow methods."""
    (here.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    empty = call(capsys, "plan spec.yaml")
    assert FitError.exit_code == empty.code
    assert "there are none: without results: igq, narrow (missing: evaluate/igq/0.5/seed0" in empty.err
    assert "`--set method=igq` runs all of them" in empty.err

    ran = call(capsys, "run spec.yaml --set method=igq --json --quiet")
    assert 0 == ran.code, ran.err
    results = [one for one in ran.json["results"] if one["budget"] == "0.5"]
    sums = {
        name: sum(one["validation_accuracy"] for one in results if one["method"] == name) for name in ("igq", "narrow")
    }
    best = max(sums, key=lambda name: sums[name])
    chosen = call(capsys, "plan spec.yaml --json")
    assert f"method `{best}`, chosen for `method: auto`:" in chosen.err
    assert "the best of 2 methods" in chosen.err
    assert {"reuse"} == {step["status"] for step in chosen.json["steps"]}
    assert f"method `{best}`, chosen for `method: auto` before" in call(capsys, "plan spec.yaml").err
    assert best == call(capsys, "run spec.yaml --json --quiet").json["method"]

    late = call(capsys, "plan spec.yaml --refit --set target.time=0.01s")
    assert FitError.exit_code == late.code
    assert "the fastest method with results, above `target.time`" in late.err


def test_another_seed_has_no_result(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Every seed of the spec counts; methods without all results are named."""
    (here.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    assert 0 == call(capsys, "run spec.yaml --set method=igq --set compare=[] --quiet").code
    some = call(capsys, "plan spec.yaml")
    assert "method `igq`, chosen for `method: auto`" in some.err
    assert "without results: narrow (missing: evaluate/narrow/0.5/seed0, evaluate/narrow/0.5/seed1)" in some.err
    assert FitError.exit_code == call(capsys, "plan spec.yaml --set seeds=[0,1,2]").code


def test_the_strictest_budget_decides_in_any_currency(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of multiply-adds, and the choice is the plan's: a saved one runs as it was, whatever else has results."""
    text = SPEC.replace("[0.3, 0.5]", "[{macs: 30%}, {macs: 60%}]")
    (here.folder / "spec.yaml").write_text(text, encoding="utf-8")
    ran = call(capsys, "run spec.yaml --set method=igq --json --quiet")
    assert 0 == ran.code, ran.err
    strict = [one for one in ran.json["results"] if one["budget"] == "30% macs" and one["method"] != "dense"]
    sums: dict[str, float] = {}
    for one in strict:
        sums[one["method"]] = sums.get(one["method"], 0.0) + one["validation_accuracy"]
    best = max(sums, key=lambda name: sums[name])
    planned = call(capsys, "plan spec.yaml --out saved.plan")
    assert f"{sums[best] / 2:.1f} % on validation images" in planned.err
    again = call(capsys, "run saved.plan --json --quiet")
    assert (0, best) == (again.code, again.json["method"])


def test_auto_stands_for_the_first_method() -> None:
    """Until it is chosen; `learned` where no method is compared."""
    given = {"model": "lenet", "dataset": "digits", "method": "auto"}
    first = load_spec({**given, "compare": ["dense", "snip", "igq"]}).spec
    assert ("snip", "validation") == (first.method.name, first.method_by)
    assert "learned" == load_spec({**given, "compare": []}).spec.method.name
    assert "spec" == load_spec({**given, "method": "snip"}).spec.method_by
