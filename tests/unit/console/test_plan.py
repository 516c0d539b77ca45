"""The totals of a plan on a terminal: a range of time, here and now, and on an idle machine."""

from __future__ import annotations

import pytest

from autosparse.console.plan import show_plan
from autosparse.cost.fit import fit_plan
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from autosparse.text import seconds_range
from tests.plans import DIGITS, MACHINE, known_rates


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.04, 0.16, "0.0 to 0.2 s"),
        (41.4, 69.6, "41 to 70 s"),
        (2400.0, 4210.0, "40 to 70 min"),
        (59.6, 130.0, "1.0 to 2.2 min"),
        (6600.0, 9001.0, "1.8 to 2.5 h"),
        (86400.0 * 400, 86400.0 * 8012, "400 to 8,010 days"),
        (30.2, 30.4, "30 s"),
        (0.0, 0.0, "0.0 s"),
    ],
)
def test_a_range_has_one_unit(low: float, high: float, text: str) -> None:
    """Two digits, in the unit that suits the high end."""
    assert text == seconds_range(low, high)


@pytest.mark.parametrize("slowdown", [1.0, 1.4, 3.0])
def test_a_busy_machine_shows_both_times(store: Store, capsys: pytest.CaptureFixture[str], slowdown: float) -> None:
    """The range here, now; and the idle one, which is the only one on an idle machine."""
    spec, known = load_spec(DIGITS).spec, known_rates(slowdown=slowdown)
    fitted = fit_plan(spec, MACHINE, "digits", store, open_index(store), calibration=known)
    show_plan(fitted, None, every_step=False)
    out = " ".join(capsys.readouterr().out.split())
    idle, present = (seconds_range(*bounds) for bounds in (fitted.idle_range, fitted.present_range))

    if slowdown == 3.0:
        assert f"about {present} here, now, on cpu" in out
        assert f"this machine is busy, 3.0 times as slow as when idle: about {idle} on an idle machine" in out
    else:
        assert f"about {idle} on cpu" in out
        assert "busy" not in out
