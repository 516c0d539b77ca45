"""Names that stand for many choices, their options, and files that are relative to what names them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autosparse.datasets import datasets
from autosparse.errors import SpecError
from autosparse.models import models
from autosparse.spec import LoadedSpec, load_spec, spec_schema

HERE = "version: 1\nmodel: {model}\ndataset: {dataset}\n"


def loaded(folder: Path, model: str = "resnet8", dataset: str = "digits", **options: Any) -> LoadedSpec:
    """A spec that names these."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(HERE.format(model=model, dataset=dataset), encoding="utf-8")
    return load_spec(folder / "spec.yaml", **options)


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("resnet8", "resnet8"),
        ("torchvision:vgg16_bn", "torchvision:NAME"),
        ("timm:resnet18.a1_in1k", "timm:NAME"),
        ("net.py:build", "FILE.py:FACTORY"),
        ("../my nets/net.v2.py:build", "FILE.py:FACTORY"),
        ("C:\\nets\\net.py:build", "FILE.py:FACTORY"),
        ("package.module:build", "FILE.py:FACTORY"),
        ("resnet", None),
        ("net.py", None),
        ("net.py:", None),
        ("net.py:build()", None),
        ("a\nb.py:build", None),
        ("timm:hf-hub:somebody/net", None),
        (".py:build", None),
    ],
)
def test_which_choice_a_name_means(name: str, template: str | None) -> None:
    """Names by themselves come first, then libraries, then files and packages of one's own."""
    assert template == models.template(name)
    assert (template is not None) == (name in models)


def test_names_of_other_registries() -> None:
    """Datasets of one's own look like networks of one's own; there are no datasets by library."""
    assert "FILE.py:FACTORY" == datasets.template("data.py:load")
    assert "FILE.py:FACTORY" == datasets.template("torchvision.datasets:MNIST")
    assert "FILE.py:FACTORY" not in datasets.names


def test_options_are_kept_as_they_are(tmp_path: Path) -> None:
    """Numbers, texts, lists and mappings reach the factory; the shared ones are autosparse's."""
    model = (
        "{name: 'net.py:build', width: 8, deep: {a: [1, 2.5, yes]}, flag: true, none: null, initialization: orthogonal}"
    )
    options = loaded(tmp_path, model).spec.model.options()

    assert {
        "width": 8, "deep": {"a": [1, 2.5, "yes"]}, "flag": True, "none": None, "initialization": "orthogonal",
        "prunable": None, "exclude": [],
    } == options  # fmt: skip
    assert ({"width": 8}, {"initialization": "default"}) == models["net.py:build"].apart(
        {"width": 8, "initialization": "default"}
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{name: resnet8, widht: 8}", r"spec\.yaml:2:\d+: .*unknown key `widht`"),
        ("{name: 'net.py:build', initialization: kaiming}", r"spec\.yaml:2:\d+: .*initialization"),
        ("{name: 'net.py', width: 8}", r"spec\.yaml:2:\d+: .*must be a model but is 'net\.py'"),
        ("{width: 8}", r"spec\.yaml:2:\d+: .*needs the `name` of a model"),
    ],
)
def test_what_is_told_of_a_spec(tmp_path: Path, model: str, message: str) -> None:
    """Shared options are checked for every name, own ones where they are known."""
    with pytest.raises(SpecError, match=message):
        loaded(tmp_path, model)


def test_paths_are_relative_to_what_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in a spec is relative to the spec, on the command line to the directory; lists and globs too."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    spec = tmp_path / "specs"

    def path(dataset: str, *overrides: str) -> Any:
        options = loaded(spec, dataset=dataset, overrides=overrides).spec.dataset.options()
        return options.get("path", options.get("root"))

    assert str(tmp_path / "data") == path("{name: image_folder, root: ../data}")
    assert str(tmp_path / "here" / "data") == path("{name: image_folder, root: ../data}", "dataset.root=data")
    assert str(tmp_path / "specs" / "data") == path("{name: image_folder, root: data}", "dataset.size=8")
    assert [str(spec / "a.parquet"), str(spec / "b*.parquet")] == path(
        "{name: parquet, path: [a.parquet, ./b*.parquet]}"
    )
    assert "/data" == path("{name: image_folder, root: /data}")
    assert "~/data" == path("{name: image_folder, root: ~/data}")


def test_the_schema_takes_every_name() -> None:
    """Editors know that a name can be a pattern's."""
    text = str(spec_schema())

    for entry in (*models, *datasets):
        assert entry.name in text or (entry.pattern and repr(f"^(?:{entry.pattern})$") in text)
        assert entry.pattern is None or re.compile(entry.pattern)
