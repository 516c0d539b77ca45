"""Studies: rebuilt from finished trials, the same proposals every time, and a file for optuna-dashboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from autosparse.errors import MissingRequirement, UsageError
from autosparse.steps.tuning.study import (
    Pruner,
    Sampler,
    Trial,
    export_study,
    importances,
    propose,
    should_stop,
    study_url,
)

DEFAULTS = {"width": 64, "lr": 0.01, "kind": "b"}
SPACE: dict[str, dict[str, Any]] = {
    "width": {"low": 8, "high": 128, "log": True},
    "lr": {"low": 0.001, "high": 0.1, "log": True},
    "kind": {"values": ["a", "b", "c"]},
}


def tried(count: int, sampler: Sampler = "tpe", seed: str = "study", parallel: int = 1) -> list[Trial]:
    """Trials in batches, the last of a batch first, whose value falls with the distance of the width from 20."""
    trials: list[Trial] = []
    while len(trials) < count:
        batch = [
            propose(DEFAULTS, SPACE, seed, number, trials, sampler)
            for number in reversed(range(len(trials), min(count, len(trials) + parallel)))
        ]
        trials += [Trial(settings, -abs(settings["width"] - 20) / 100) for settings in reversed(batch)]
    return trials


def test_defaults_come_first() -> None:
    """Tuning is never worse than not tuning on its own objective."""
    assert DEFAULTS == tried(1)[0].settings


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_proposals_are_the_same_every_time(sampler: Sampler) -> None:
    """A study that was rebuilt after each trial goes on as it did; another seed proposes others; all are in range."""
    first, again = tried(12, sampler), tried(12, sampler)

    assert first == again
    assert first != tried(12, sampler, "another")
    for trial in first:
        settings = trial.settings
        assert 8 <= settings["width"] <= 128
        assert 0.001 <= settings["lr"] <= 0.1
        assert settings["kind"] in ("a", "b", "c")


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_trials_of_a_batch_are_proposed_apart(sampler: Sampler) -> None:
    """Each knows the batches before and where its siblings look, in any order; more trials change none of them."""
    batches = tried(14, sampler, parallel=4)
    settings = [trial.settings for trial in batches]

    assert DEFAULTS == settings[0]
    assert 14 == len({str(each) for each in settings})
    assert batches == tried(14, sampler, parallel=4)
    assert batches[:8] == tried(8, sampler, parallel=4)
    assert batches[:6] == tried(6, sampler, parallel=4)  # the last batch may be cut short
    assert (batches == tried(14, sampler)) == (sampler == "random")  # which looks at no trial


def whole(*folds: float) -> Trial:
    """A finished trial that came to these values."""
    return Trial(DEFAULTS, sum(folds) / len(folds), folds)


FIVE = [whole(low, low + 0.1, low + 0.2, low + 0.3, low + 0.4) for low in (0.1, 0.2, 0.3, 0.4, 0.5)]


@pytest.mark.parametrize(
    ("pruner", "values", "finished", "expected"),
    [
        pytest.param("median", [0.29], FIVE, True, id="below the median of the first fold, 0.3"),
        pytest.param("median", [0.31], FIVE, False, id="above it"),
        pytest.param("median", [0.1], FIVE[1:], False, id="four do not tell a median"),
        pytest.param(
            "median", [0.35], [*FIVE[:3], *(replace(t, stopped=True) for t in FIVE)], False, id="of whole ones"
        ),
        pytest.param("none", [-1.0], FIVE, False, id="nothing is stopped"),
        pytest.param("wilcoxon", [0.4, 0.5, 0.6], FIVE, False, id="three of three may be chance"),
        pytest.param("wilcoxon", [0.4, 0.5, 0.6, 0.7], FIVE, True, id="four of four are below the best"),
        pytest.param("wilcoxon", [0.6, 0.5, 0.8, 0.7], FIVE, False, id="two of four are not"),
    ],
)
def test_a_trial_stops_when_optunas_pruner_says_so(
    pruner: Pruner, values: list[float], finished: list[Trial], expected: bool
) -> None:
    """By the values of the same folds of the trials that were there when it was proposed, and were not stopped."""
    assert expected == should_stop(values, finished, pruner)


def test_stopped_trials_do_not_end_a_study() -> None:
    """The sampler takes them for what they came to."""
    trials = [replace(trial, folds=[trial.value], stopped=index % 2 == 1) for index, trial in enumerate(tried(12))]

    assert set(SPACE) == set(propose(DEFAULTS, SPACE, "study", 12, trials, "tpe"))
    assert set(SPACE) == set(propose(DEFAULTS, SPACE, "study", 12, trials, "gp"))


def test_each_selection_is_tried_with_the_defaults_first() -> None:
    """In turn, in batches of any size; from then on both are proposed."""
    space = {**SPACE, "selection": {"values": ["top", "shuffle", "balanced"]}}
    expected = [{**DEFAULTS, "selection": value} for value in ("top", "shuffle", "balanced")]
    trials: list[Trial] = []
    for number in range(6):
        trials.append(Trial(propose(DEFAULTS, space, "study", number, trials, "tpe"), float(number)))
    batch = [propose(DEFAULTS, space, "study", number, [], "tpe") for number in range(4)]

    assert expected == [trial.settings for trial in trials[:3]] == batch[:3]
    assert all({*DEFAULTS, "selection"} == set(trial.settings) for trial in trials)
    assert trials[3].settings not in expected


def test_what_matters_is_told() -> None:
    """The one option that decides the value explains most of it."""
    shares = importances(DEFAULTS, SPACE, tried(30, "random"))

    assert set(SPACE) == set(shares)
    assert max(shares, key=shares.__getitem__) == "width"
    assert pytest.approx(1.0) == sum(shares.values())


@pytest.mark.parametrize("trials", [tried(3), [Trial(DEFAULTS, 0.5)] * 9])
def test_nothing_is_told_of_few_or_equal_trials(trials: list[Trial]) -> None:
    """Neither says anything."""
    assert {} == importances(DEFAULTS, SPACE, trials)


def test_a_study_is_exported_once(tmp_path: Path) -> None:
    """Optuna loads every trial from the file; an existing file is not touched."""
    import optuna

    trials, path = tried(5), tmp_path / "study.db"

    export_study(path, "digits-1", DEFAULTS, SPACE, trials)

    study = optuna.load_study(study_name="digits-1", storage=f"sqlite:///{path}")
    assert [trial.settings for trial in trials] == [trial.params for trial in study.trials]
    assert [trial.value for trial in trials] == [trial.value for trial in study.trials]
    with pytest.raises(UsageError, match="exists"):
        export_study(path, "digits-1", DEFAULTS, SPACE, trials)
    with pytest.raises(UsageError, match="there is no folder"):
        export_study(tmp_path / "none" / "study.db", "digits-1", DEFAULTS, SPACE, trials)


NAMES = ["a b.db", "a#b.db", "ü.db", "a?b.db", "a%41b.db", "a{b}.db", ":memory:", "file:a.db", "job%2Fbranch/s.db"]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_the_name_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever signs are in it, next to no other file; its URL leads to it."""
    import optuna

    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    export_study(path, "digits-1", DEFAULTS, SPACE, tried(2))

    assert [path] == [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    if not name.startswith((":", "file:")):  # signs to SQLite itself, in any URL
        study = optuna.load_study(study_name="digits-1", storage=study_url(path))
        assert 2 == len(study.trials)


def test_a_study_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence with the file and the reason."""
    (tmp_path / "study.db").symlink_to("nowhere")
    with pytest.raises(MissingRequirement, match=r"study .* cannot be written: "):
        export_study(tmp_path / "study.db", "digits-1", DEFAULTS, SPACE, tried(2))
