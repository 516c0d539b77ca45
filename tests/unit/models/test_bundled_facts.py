"""Facts of built-in networks in the package; `python -m tests.unit.models.test_bundled_facts` writes them again."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from autosparse.models import facts, models
from autosparse.models.facts import Network, bundled_facts, network_facts, trace_network
from autosparse.packaged import shipped
from tests.plans import compiled

DATASETS = ("cifar10", "cifar100", "mnist")
HAVE_DATA = ("digits", "resnet_cifar")  # specs that compile without files of the user


@cache
def networks() -> dict[str, Network]:
    """Every built-in network on images of common sets, and those of shipped specs, by the digest of its identity."""
    names = [entry.name for entry in models if entry.pattern is None]
    texts = [f"version: 1\nmodel: {name}\ndataset: {dataset}\n" for name in names for dataset in DATASETS]
    plans = [compiled(path) for name, path in shipped("specs").items() if name in HAVE_DATA]
    for text in texts:
        Path("spec.yaml").write_text(text, encoding="utf-8")
        plans.append(compiled("spec.yaml"))
    every = [step.network for plan in plans for step in plan.steps.values() if step.operation == "init"]
    return {facts.identity_of(one.identity, one.shape, one.classes): one for one in every}


def traced(identity: str) -> dict[str, object]:
    """The facts of a network as JSON holds them."""
    one = networks()[identity]
    made = asdict(trace_network(identity, one.name, one.options, one.shape, one.classes))
    del made["identity"]
    document: dict[str, object] = json.loads(json.dumps(made))
    return document


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))


def test_networks_are_those_of_the_registry() -> None:
    """A new built-in network comes with its facts; no entry is left of a network that has gone."""
    assert networks().keys() == bundled_facts().keys()


@pytest.mark.parametrize("name", ["lenet", "resnet8", "mobilenet"])
def test_small_networks_are_as_bundled(name: str) -> None:
    """The facts are those of a trace."""
    chosen = [identity for identity, one in networks().items() if one.name == name]

    assert chosen
    for identity in chosen:
        assert bundled_facts()[identity] == traced(identity)


@pytest.mark.slow
def test_all_networks_are_as_bundled() -> None:
    """The facts are those of a trace."""
    assert {identity: traced(identity) for identity in networks()} == bundled_facts()


def test_bundled_facts_need_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is built, and nothing is written to the cache."""
    monkeypatch.setattr(facts, "build_model", lambda *about: pytest.fail("built"))
    for one in networks().values():
        assert network_facts(one.identity, one.name, one.options, one.shape, one.classes).parameters > 0

    assert not [*Path("cache").glob("memory/network-*")]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AUTOSPARSE_CACHE_DIR", folder)
        document = {identity: traced(identity) for identity in sorted(networks())}
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(one, separators=(',', ':'))}" for name, one in document.items())
    Path(facts.__file__).with_name("facts.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
