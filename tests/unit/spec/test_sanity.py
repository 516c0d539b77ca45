"""The `sanity` section: what it may name, and what it means when little is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.backends import Machine
from autosparse.core.sanity import CHECKS
from autosparse.errors import SpecError
from autosparse.spec import Spec, load_spec, resolve

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
GOOD = "model: resnet8\ndataset: digits\nbudget: [0.5, 90%]\nmethod: snip\ncompare: [erk, grasp, dense]\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Spec:
    """The spec of a text."""
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return load_spec(Path("spec.yaml")).spec


@pytest.mark.parametrize("text", ["", "sanity: false\n", "sanity: null\n"])
def test_without_the_section_nothing_is_checked(text: str) -> None:
    """Checks are trained only for those who ask."""
    assert load(GOOD + text).sanity is None


@pytest.mark.parametrize("text", ["sanity: true\n", "sanity: {}\n", "sanity: {methods: auto, budget: max, seeds: 1}\n"])
def test_the_defaults(text: str) -> None:
    """The method and the best baseline, every check, the highest budget, one seed."""
    sanity = resolve(load(GOOD + text), MACHINE).sanity

    assert sanity is not None
    assert ("snip", "best") == sanity.methods
    assert (tuple(CHECKS), "max", 1) == (sanity.checks, sanity.budget, sanity.seeds)


def test_without_baselines_there_is_no_best() -> None:
    """If nothing is compared the method alone is checked."""
    sanity = resolve(load(GOOD.replace("[erk, grasp, dense]", "[dense]") + "sanity: true\n"), MACHINE).sanity

    assert sanity is not None
    assert ("snip",) == sanity.methods


def test_a_budget_may_be_written_in_any_way() -> None:
    """`0.9` is the budget that `90%` is."""
    sanity = load(GOOD + "sanity: {budget: 0.9}\n").sanity

    assert sanity is not None
    assert 0.9 == sanity.budget


@pytest.mark.parametrize(
    ("text", "path", "message", "hint"),
    [
        ("{methods: [snp]}", "6:20", "`sanity.methods[0]` must name a method that is compared", "did you mean `snip`?"),
        ("{methods: [snip, beast]}", "6:26", "`sanity.methods[1]` must name", "did you mean `best`?"),
        ("{methods: [dense]}", "6:20", "`sanity.methods[0]` must name", "compared are snip, erk, grasp; or `best`"),
        ("{methods: [erk, erk]}", "6:25", "`sanity.methods[1]` repeats erk", "name it once"),
        ("{checks: [shufle]}", "6:19", "`sanity.checks[0]` must be", "did you mean `shuffle`?"),
        ("{checks: [quotas]}", "6:19", "must be a check but is 'quotas'", "`shuffle` is that check"),
        ("{budget: 0.95}", "6:18", "`sanity.budget` must be one of `budget` but is 0.95", "0.5, 0.9 or max"),
        ("{budget: most}", "6:18", "`sanity.budget` must be a number", "0.99 removes"),
        ("{seeds: 2}", "6:17", "`sanity.seeds` must be at most the number of `seeds` but is 2", "1"),
        ("{seeds: 0}", "6:17", "`sanity.seeds` must be at least 1 but is 0", None),
        ("{metods: [snip]}", "6:10", "unknown key `metods` in `sanity`", "did you mean `methods`?"),
    ],
)
def test_wrong_words_are_told_with_a_hint(text: str, path: str, message: str, hint: str | None) -> None:
    """An invalid value of the section is an error with its position and the remedy."""
    with pytest.raises(SpecError) as error:
        load(f"{GOOD}sanity: {text}\n")

    assert f"spec.yaml:{path}" in error.value.message
    assert message in error.value.message
    assert (hint or "") in (error.value.hint or "")


def test_best_needs_something_to_be_best_of() -> None:
    """`best` without baselines is an error."""
    with pytest.raises(SpecError, match="is 'best', but nothing is compared"):
        load(GOOD.replace("[erk, grasp, dense]", "[]") + "sanity: {methods: [best]}\n")


def test_a_method_cannot_be_named_best() -> None:
    """The name would be ambiguous."""
    with pytest.raises(SpecError, match="cannot be distinguished from the method of the name 'best'"):
        load(GOOD.replace("[erk,", "[{name: best, criterion: snip},") + "sanity: true\n")
