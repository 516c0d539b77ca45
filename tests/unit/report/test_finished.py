"""When steps were made: side by side, after another, with pauses left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from autosparse.errors import DamagedArtifact
from autosparse.planning.model import Plan
from autosparse.report.finished import Finished, ImageSet, describe_timeline
from autosparse.steps.data import DataResult
from autosparse.store import Store


def printed(*steps: tuple[str, str, float]) -> list[tuple[str, float, float]]:
    """The timeline of steps of these names, ends and seconds."""
    plan = SimpleNamespace(
        steps={name: SimpleNamespace(name=name, operation="train", key=name, purpose="target") for name, *_ in steps}
    )
    store = Store(Path("nowhere"))
    made = {name: {"created": created, "seconds": seconds} for name, created, seconds in steps}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "open", lambda _, key: SimpleNamespace(descriptor=made[key]))
        finished = Finished(cast(Plan, cast(Any, plan)), store)
        return [(item.step, item.begin, item.seconds) for item in describe_timeline(finished)]


def test_pauses_between_runs_are_left_out() -> None:
    """A step of the next day begins where the last of the day before ended."""
    days = [("a", "2026-01-01T10:00:10.000+00:00", 10.0), ("b", "2026-01-02T09:00:05.500+00:00", 5.0)]

    assert [("a", 0.0, 10.0), ("b", 10.0, 5.0)] == printed(*days)


def test_steps_side_by_side_overlap() -> None:
    """One that began while another was made begins within it, whichever ended first."""
    result = printed(
        ("long", "2026-01-01T10:00:10.000+00:00", 10.0),
        ("short", "2026-01-01T10:00:05.000+00:00", 2.0),
        ("next", "2026-01-01T10:00:12.000+00:00", 3.0),
    )

    assert [("long", 0.0, 10.0), ("short", 3.0, 2.0), ("next", 9.0, 3.0)] == result


def test_steps_that_do_not_say_when_are_left_out() -> None:
    """Artifacts that came with the package, or of other programs."""
    assert [("a", 0.0, 1.0)] == printed(("a", "2026-01-01T10:00:10.000+00:00", 1.0), ("b", "", 1.0))


KEY = "d" * 64


def of_labels(store: Store, labels: torch.Tensor | None) -> Finished:
    """A plan of four classes for 100 test images; its data have these labels, or are not in the store."""
    source = SimpleNamespace(test_images=100, validation_images=50, classes=4)
    step = SimpleNamespace(name="data/x", operation="data", key=KEY)
    evaluate = SimpleNamespace(inputs={"data": "data/x"})
    plan = SimpleNamespace(
        cells=[SimpleNamespace(evaluate="e")], sources={"data/x": source}, steps={"e": evaluate, "data/x": step}
    )
    if labels is not None:
        files = {name: {"labels": labels} for name in ("statistics", "train", "validation", "test")}
        store.publish("data", KEY, lambda draft: DataResult().write(draft, **files), dict)
    return Finished(cast(Plan, cast(Any, plan)), store)


def test_chance_is_the_share_of_the_commonest_class(store: Store) -> None:
    """Of the labels in the store, which also count the images; a class may have none."""
    finished = of_labels(store, torch.tensor([3, 0, 0, 0, 3]))

    assert ImageSet(5, 60.0) == finished.test
    assert ImageSet(5, 60.0) == finished.validation


def test_chance_without_labels_is_an_equal_share(store: Store) -> None:
    """As planned: the data of a cached run may be elsewhere."""
    finished = of_labels(store, None)

    assert (ImageSet(100, 25.0), ImageSet(50, 25.0)) == (finished.test, finished.validation)


def test_malformed_labels_are_damage(store: Store) -> None:
    """Fractions are no classes."""
    with pytest.raises(DamagedArtifact, match="labels"):
        _ = of_labels(store, torch.tensor([0.5, 1.0])).test
