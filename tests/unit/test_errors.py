"""Messages of errors: long values and long messages are cut, with a count of the characters left out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from autosparse.errors import Problem, SpecError, StepError, UsageError, shortened
from autosparse.spec import load_spec


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("x" * 10**6, 300),
        (f"unknown key `{'many words ' * 10**5}` in the spec", 340),
        (f"it is '{'a b' * 10**5}'", 320),
        ("some words " * 10**5, 2000),
    ],
)
def test_a_long_text_is_cut_once(text: str, longest: int) -> None:
    """Its start and its end stay, and cutting it again changes nothing."""
    short = shortened(text)

    assert len(short) <= longest
    assert text[:20] == short[:20]
    assert text[-1:] == short[-1:]
    assert "characters left out]" in short
    assert short == shortened(short)


def test_a_text_of_usual_length_stays() -> None:
    """Paths of 250 characters too."""
    text = f"/{'a' * 249} does not exist, " * 6

    assert text == shortened(text)


def test_apostrophes_are_no_quotes() -> None:
    """A text between two possessives stays; a quoted value next to them is cut."""
    prose = f"the step's input {'has many short words ' * 20}in the spec's file"
    quoted = f"the step's value '{'a b' * 200}' is odd"

    assert prose == shortened(prose)
    assert prose.replace("'", '"') == shortened(prose.replace("'", '"'))
    assert "characters left out" in shortened(quoted)
    assert shortened(quoted).startswith("the step's value 'a ba b")


def test_every_error_is_cut() -> None:
    """Message, hint, several problems, mistakes of a spec, and a copy from another process."""
    long = "x" * 10**6
    errors = [
        UsageError(long, long),
        UsageError.of([("one", None), (long, long)]),
        SpecError(Problem(long, long, long, 1, 1), None, Problem(long)),
        pickle.loads(pickle.dumps(StepError(long))),
    ]

    assert all(len(message) < 1000 for error in errors for message, _ in error.problems)
    assert all(len(hint or "") < 400 for error in errors for _, hint in error.problems)
    assert all(len(str(error)) < 2500 for error in errors)


@pytest.mark.parametrize(
    "text",
    [f"{'k' * 900_000}: 1", f"model: '{'m ' * 400_000}'", f"seeds: [{'1, ' * 1000}x]", f"extends: {'e' * 90_000}"],
)
def test_a_spec_of_long_values_has_short_mistakes(tmp_path: Path, text: str) -> None:
    """Whichever part of the file echoes a value."""
    path = tmp_path / "a.yaml"
    path.write_text(text)

    with pytest.raises(SpecError) as caught:
        load_spec(path)

    assert all(len(message) + len(hint or "") < 2500 for message, hint in caught.value.problems)
