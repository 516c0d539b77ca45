"""The work of steps, counted before anything runs."""

from __future__ import annotations

from autosparse.core.criteria import criteria


def test_the_price_of_prospr_grows_with_its_steps() -> None:
    """A gradient after the steps, and for each of them one there and a Hessian product back; a state for each."""
    facts = criteria["prospr"].facts

    assert [4.5, 11.5] == [facts["gradients"]({"steps": steps}) for steps in (1, 3)]
    assert [3, 5] == [facts["states"]({"steps": steps}) for steps in (1, 3)]
