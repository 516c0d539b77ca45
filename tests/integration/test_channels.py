"""Runs that prune whole channels: within the budget, trained smaller, exported smaller, and reused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import autosparse
from autosparse.core.weights import prunable_weights

pytestmark = pytest.mark.slow

SPEC: Mapping[str, Any] = {
    "version": 1,
    "model": {"name": "resnet8", "width": 8},
    "dataset": "digits",
    "budget": {"macs": "30%"},
    "method": {"criterion": "magnitude", "unit": {"name": "channel", "rescale": True}, "name": "magnitude+channel"},
    "compare": ["dense"],
    "sanity": {"methods": ["magnitude+channel"], "checks": ["invert", "reinitialize"]},
    "training": {"epochs": 1, "batch": 128, "lr": 0.05, "precision": "float32"},
    "emit": ["safetensors", "shrunk", "sparse", "compact"],
    "target": {"threads": 1},
}


def test_a_run_of_whole_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks keep whole channels within the budget, every format computes the same network, and a rerun reuses all."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    report = autosparse.run(SPEC, out=tmp_path / "run")
    results = [*report.results, *report.controls]
    limit = 0.3 * next(one["dense_macs"] for one in results)
    masks = report.masks("magnitude+channel", "macs=30%", 0)
    model = report.model("magnitude+channel", "macs=30%", 0)
    smaller = masks.shrink(model).eval()
    images = torch.rand(4, 1, 8, 8)

    assert all(0 < one["macs"] <= limit for one in results if one["method"] != "dense")
    checks = [one for subject in report.json()["sanity"] for one in subject["checks"]]
    assert {"invert": None, "reinitialize": None} == {one["check"]: one["left_out"] or None for one in checks}
    assert all(not bool(weight[~masks[name]].any()) for name, weight in prunable_weights(model).items())
    assert sum(one.numel() for one in smaller.parameters()) < 0.5 * sum(one.numel() for one in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), smaller(images))
        for emitted in report.emitted:
            assert emitted["test_accuracy"] == results[0]["test_accuracy"]
            loaded = autosparse.load(emitted["path"]).eval()
            torch.testing.assert_close(smaller(images), loaded(images), atol=1e-4, rtol=1e-4)
    reasons = {emitted["format"]: emitted["without_gain"] for emitted in report.emitted}
    assert "its smaller layers take as long here" == reasons["shrunk"] == reasons["sparse"] != reasons["safetensors"]
    assert 0 == autosparse.run(SPEC, out=tmp_path / "again").json()["steps"]["run"]
