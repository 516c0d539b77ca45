"""Charts as SVG: lines stand where their numbers are."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from autosparse.html.svg import Series, line_chart


def test_lines_stand_where_their_numbers_are() -> None:
    """The least is at the left and low, the most at the right and high, the middle in the middle."""
    plot = ET.fromstring(line_chart("t", "x", "y", [Series("a", [(0, 0.0), (1, 50.0), (2, 100.0)], [0.0, 5.0, 0.0])]))
    spots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in plot.iter("{http://www.w3.org/2000/svg}circle")]

    assert sorted(spots) == spots
    assert sorted((y for _, y in spots), reverse=True) == [y for _, y in spots]
    assert (spots[0][0] + spots[2][0]) / 2 == pytest.approx(spots[1][0], abs=0.1)
    assert (spots[0][1] + spots[2][1]) / 2 == pytest.approx(spots[1][1], abs=0.1)


@pytest.mark.parametrize("points", [[(0.0, 5.0)], [(0.0, 5.0), (1.0, 5.0)], [(0.0, 0.0)], [(3.0, -1e9), (4.0, 1e9)]])
def test_a_line_of_any_reach_can_be_drawn(points: list[tuple[float, float]]) -> None:
    """One point, no difference, very large numbers."""
    ET.fromstring(line_chart("t", "x", "y", [Series("a", points)]))
