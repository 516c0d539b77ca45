"""Plans of methods that prune whole channels: controls, names, work, and what a spec refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.cost.work import count_work
from autosparse.errors import SpecError
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import load_spec, resolve
from tests.plans import MACHINE

BASE = (
    "model: {name: resnet8, width: 4}\ndataset: digits\nbudget: {macs: 25%}\n"
    "method: {criterion: snip, unit: channel}\ntraining: {epochs: 2, lr: 0.1}\ncompare: [dense]\nemit: []\n"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str) -> Plan:
    """The plan of the spec, with overrides."""
    Path("spec.yaml").write_text(BASE, encoding="utf-8")
    return compile_plan(resolve(load_spec(Path("spec.yaml"), overrides=overrides).spec, MACHINE), "spec")


def refused(*overrides: str) -> str:
    """The first mistake of the spec with overrides."""
    with pytest.raises(SpecError) as caught:
        plan(*overrides)
    return str(caught.value.errors[0])


def test_controls_of_a_smaller_network() -> None:
    """Whole channels are compared with a smaller width and random channels; single weights are not."""
    methods = [cell.method for cell in plan().cells]
    names = [f"snip+channel{control}" for control in ("", ".shuffle", ".layer_mean", ".width", ".random")]

    assert [*names, "dense"] == methods
    assert not {"snip.width", "snip.random"} & {cell.method for cell in plan("method=snip").cells}


def test_by_default_methods_of_whole_channels_are_compared() -> None:
    """In the unit of the method, so that a latency budget holds for all; a list of baselines is kept as it is."""
    Path("spec.yaml").write_text(BASE.replace("compare: [dense]\n", ""), encoding="utf-8")
    spec = load_spec(Path("spec.yaml"), overrides=["method.unit={name: channel, least: 0.1}"]).spec
    options = {tuple(method.unit.options().items()) for method in spec.methods}
    weights = load_spec(Path("spec.yaml"), overrides=["method=snip"]).spec

    assert {f"{name}+channel.least-0.1" for name in ("magnitude", "snip", "synflow")} == {
        method.name for method in spec.methods
    }
    assert 1 == len(options)
    assert "random" in [method.name for method in weights.compared]


def test_a_latency_budget_needs_no_other_baselines() -> None:
    """The default ones buy time as well."""
    Path("spec.yaml").write_text(BASE.replace("compare: [dense]\n", ""), encoding="utf-8")

    assert "2x latency" == str(load_spec(Path("spec.yaml"), overrides=["budget={latency: 2x}"]).spec.budget[0])


@pytest.mark.parametrize("option", ["least: 2", "rescale: 1", "multiple: '8'"])
def test_a_wrong_unit_is_one_mistake(option: str) -> None:
    """Baselines of the same unit do not repeat it."""
    Path("spec.yaml").write_text(BASE.replace("compare: [dense]\n", ""), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(Path("spec.yaml"), overrides=[f"method.unit={{name: channel, {option}}}"])

    assert 1 == len(caught.value.errors)


def test_a_latency_of_single_weights_blames_the_method() -> None:
    """Rather than a default baseline, which the spec does not name."""
    Path("spec.yaml").write_text(BASE.replace("compare: [dense]\n", ""), encoding="utf-8")
    with pytest.raises(SpecError, match="`snip` prunes single weights"):
        load_spec(Path("spec.yaml"), overrides=["method=snip", "budget={latency: 2x}"])


@pytest.mark.parametrize(
    ("written", "name", "length"),
    [("{unit: channel}", "channel", None), ("{unit: channel, horizon: 10%}", "channel+10pct", "10%")],
)
def test_channels_alone_are_scored_by_snip(written: str, name: str, length: str | None) -> None:
    """A horizon searches from these scores on."""
    Path("spec.yaml").write_text(BASE, encoding="utf-8")
    method = load_spec(Path("spec.yaml"), overrides=[f"method={written}"]).spec.method

    assert (name, length, "snip") == (method.name, method.horizon, method.criterion.name)
    assert method.prunes_channels


def test_a_pattern_alone_is_of_learned_scores() -> None:
    """As any method without a criterion."""
    Path("spec.yaml").write_text(BASE, encoding="utf-8")
    spec = load_spec(Path("spec.yaml"), overrides=["method={unit: '2:4'}", "budget=0.5"]).spec

    assert ("learned+2of4", "learned") == (spec.method.name, spec.method.criterion.name)


def test_the_width_keeps_other_options_of_the_unit() -> None:
    """It keeps the same share of every group at random, with the initialization of that width."""
    planned = plan("method={criterion: snip, unit: {name: channel, multiple: 4}}")
    (mask,) = [step for name, step in planned.steps.items() if name.startswith("mask/") and ".width/" in name]
    method = mask.options["method"]

    assert ("random", "uniform") == (method["criterion"]["name"], method["allocation"]["name"])
    assert {"multiple": 4, "rescale": True}.items() <= method["unit"]["options"].items()


def test_training_the_smaller_network_is_priced() -> None:
    """Its work is the budget's share of the dense network's."""
    works = count_work(plan())
    smaller, dense = (works[f"train/{name}/seed0"].load for name in ("snip+channel/25-percent-macs", "dense"))

    assert smaller.counted.macs == pytest.approx(0.25 * dense.counted.macs, rel=1e-3)
    assert smaller.units["train"] == pytest.approx(0.25 * dense.units["train"], rel=1e-3)


def test_checks_of_smaller_networks_are_priced() -> None:
    """A sanity check trains the smaller network too."""
    checked = plan("sanity={methods: [snip+channel], checks: [reinitialize]}")
    (check,) = [work for name, work in count_work(checked).items() if name.startswith("sanity/")]
    training = count_work(checked)["train/snip+channel/25-percent-macs/seed0"]

    assert check.load.units["train"] == pytest.approx(training.load.units["train"])


def test_single_weights_keep_their_keys() -> None:
    """The default unit is part of no key."""
    assert "unit" not in plan("method=snip").steps["mask/snip/25-percent-macs/seed0"].options["method"]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("{criterion: snip, unit: channel, repair: reconnect}", "`reconnect` restores single weights"),
        ("{criterion: random, selection: paths, unit: channel}", "`paths` fills layers weight by weight"),
        ("{criterion: snip, unit: chan}", "must be a unit but is 'chan'"),
        ("{criterion: snip, unit: {name: channel, least: 1}}", "least"),
        ("{criterion: snip, unit: {name: channel, multiple: 0}}", "must be at least 1 but is 0"),
        ("{criterion: snip, unit: {name: channel, multiple: eight}}", "must be a whole number or 'auto'"),
    ],
)
def test_choices_that_do_not_fit_channels_are_refused(method: str, expected: str) -> None:
    """Each with the reason."""
    assert expected in refused(f"method={method}")
