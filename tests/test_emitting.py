"""`export`: models of any method of a run, in any format, from what the run left in the cache."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import autosparse
from tests.conftest import Ended, Place


def test_a_run_tells_how_its_models_compare(finished: tuple[Place, Ended]) -> None:
    """Bytes, latencies of one and of many images beside the dense network's, and the accuracy after a reload."""
    place, ended = finished
    emitted, results = ended.json["emitted"], ended.json["results"]

    assert [0.8, 0.9] == [model["sparsity"] for model in emitted]
    for model in emitted:
        own = [r for r in results if (r["method"], r["sparsity"], r["seed"]) == ("learned", model["sparsity"], 0)]
        assert own[0]["test_accuracy"] == pytest.approx(model["test_accuracy"])
        assert (0, 0) == (model["max_abs_error"], model["max_rel_error"])
        assert model["bytes"] > model["dense_bytes"]
        assert {"1", "32"} == model["batch_latencies_ms"].keys()
        assert all(value > 0 for pair in model["batch_latencies_ms"].values() for value in pair)
    assert "times smaller and faster than the dense network" in place.run("report").out


def test_any_method_of_a_run_in_any_format(finished: tuple[Place, Ended], tmp_path: Path) -> None:
    """The network comes back with the accuracy that the run measured; a second export makes nothing again."""
    place, ended = replace(finished[0], folder=tmp_path / "own"), finished[1]
    shutil.copytree(finished[0].folder, place.folder)
    asked = ("export", ended.json["run"], "--method", "snip", "--budget", "0.9", "--format", "compact", "--json")
    first, again = (place.run(*asked, "--out", name) for name in ("out", "other"))
    (model,) = first.json["emitted"]
    (own,) = [r for r in ended.json["results"] if (r["method"], r["sparsity"], r["seed"]) == ("snip", 0.9, 0)]
    network = autosparse.load(model["path"])

    assert (0, 0) == (first.code, again.code), first.err
    assert ("compact", "snip", own["kept"]) == (
        model["format"],
        model["method"],
        sum(int((weight != 0).sum()) for weight in network.parameters() if weight.ndim > 1),
    )
    assert own["test_accuracy"] == pytest.approx(model["test_accuracy"])
    assert model["bytes"] < model["dense_bytes"]
    assert (10,) == tuple(network(torch.zeros(1, 1, 8, 8)).shape[1:])
    assert {**model, "path": ""} == {**again.json["emitted"][0], "path": ""}
    assert "times smaller and faster" in place.run(*asked[:-1]).out


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (("--method", "snp"), "has no method `snp` with masks\nhint: did you mean `snip`?"),
        (("--method", "dense"), "has no method `dense` with masks"),
        (("--budget", "0.5"), "has no budget 0.5\nhint: it has 0.8, 0.9"),
        (("--seed", "7"), "has no seed 7\nhint: it has 0"),
        (("--format", "onyx"), "there is no format `onyx`"),
        (("--format", "{name: compact, values: int4}"), "`emit[0].values` must be"),
        (("--study", "s.db", "--format", "compact"), "`--study` writes trials, which have no `--format`"),
        (("--out", "."), ". holds something else"),
    ],
)
def test_what_a_run_does_not_have(finished: tuple[Place, Ended], asked: tuple[str, ...], text: str) -> None:
    """Exit 2, what there is, and nothing emitted."""
    place, ended = finished
    found = place.run("export", ended.json["run"], *asked)

    assert 2 == found.code
    assert text in found.err


def test_an_export_trains_nothing(finished: tuple[Place, Ended], tmp_path: Path) -> None:
    """Where the cache has lost the run's trainings it says so, whatever they would take."""
    place, ended = finished
    found = replace(place, folder=tmp_path).run("export", str(place.folder / ended.json["run"]))

    assert 2 == found.code
    assert "of the run are not in the cache any more, and an export trains nothing" in found.err
