"""Results of steps: read as they were written, and as damaged artifacts where their content has another form."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from autosparse.core.graph.connectivity import Finding
from autosparse.core.weights import Tensors
from autosparse.errors import DamagedArtifact
from autosparse.exporters import Quartiles, Speed
from autosparse.steps import StepResult, operations
from autosparse.steps.data import DataResult
from autosparse.steps.emit import EmitResult, FailedEmission, read_emission
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RewindResult, RoundResult
from autosparse.steps.label import DescribedRound, LabelResult
from autosparse.steps.mask import MaskResult
from autosparse.steps.sanity import SanityResult
from autosparse.steps.scorer import ScorerResult
from autosparse.steps.study import TrialResult, TuneResult
from autosparse.steps.train import EvaluateResult, LayerResult, TrainResult
from autosparse.store import Artifact, Store, canonical, dump_tensors
from tests.conftest import Workspace, call
from tests.sealing import edit

KEY = "5" * 64
CHOICE = {"name": "top", "options": {}, "version": 1}
MASK = torch.tensor([[True, False], [True, True]])
FINDING = Finding("dead", ("a",), "a is dead")
HELD_OUT = {"overall": 0.5, "within": 0.25, "precision": 0.5, "beyond_quotas": 0.1, "quotas": 0.9}
TRIAL = TrialResult(
    number=0,
    settings={"lr": 0.1},
    value=0.5,
    folds=[0.5],
    stopped=False,
    **HELD_OUT,
    validation_accuracy=50.0,
    selection=CHOICE,
)
SIDE = Quartiles(1.0, 2.0, 3.0)
SPEED = Speed(SIDE, SIDE, SIDE, SIDE, SIDE, 25, stable=True)
MODEL = {"a": torch.zeros(2)}
SPLIT = {"pixels": torch.zeros(2, 3, 3, 1, dtype=torch.uint8), "labels": torch.tensor([0, 1])}
STATISTICS = {"mean": torch.tensor([0.5]), "spread": torch.tensor([0.25])}


def read_data(artifact: Artifact) -> DataResult:
    """A dataset's result, with the images of a split, in memory and on disk."""
    result = DataResult.read(artifact)
    for in_memory in (True, False):
        result.images("train", in_memory=in_memory)
    return result


@dataclass(frozen=True)
class Sample:
    """A result with its tensors; `read` reads it, `optional` fields may be absent."""

    result: StepResult
    tensors: Mapping[str, Tensors]
    read: Callable[[Artifact], StepResult]
    optional: tuple[str, ...] = ()


def sample(result: StepResult, *optional: str, read: Any = None, **tensors: Tensors) -> Sample:
    """A sample that its own class reads."""
    return Sample(result, tensors, read or type(result).read, optional)


SAMPLES: dict[str, Sample] = {
    "data": sample(DataResult(), read=read_data, statistics=STATISTICS, train=SPLIT),
    "data in shards": sample(
        DataResult(),
        read=read_data,
        statistics=STATISTICS,
        train={"labels": torch.arange(4)},
        **{f"train-0000{number}": {"pixels": SPLIT["pixels"]} for number in (0, 1)},
    ),
    "init": sample(
        InitResult({"name": "mlp", "options": {}}, (1, 8, 8), 10, {"a": 4}, {"b": "a bias"}),
        state={"a": torch.zeros(2, 2)},
    ),
    "train": sample(TrainResult([0.5]), state={"a": torch.zeros(2, 2)}),
    "evaluate": sample(
        EvaluateResult(
            validation_accuracy=50.0,
            test_accuracy=25.0,
            total=4,
            kept=3,
            macs=3,
            dense_macs=4,
            layers=[LayerResult("a", 4, 3, 3, 4, 3, 2, 2, 0.5)],
            parameters=6,
            effective=3,
            effective_macs=3,
            nodes=2,
            channels=2,
            paths=0.5,
            findings=[FINDING],
        ),
        "findings",
    ),
    "irp": sample(RoundResult(3, 4, {"a": 3}, [0.5], 50.0), masks={"a": MASK}, scores={"a": torch.zeros(2, 2)}),
    "rewind": sample(RewindResult(), state={"a": torch.zeros(2, 2)}),
    "label": sample(
        LabelResult(["magnitude"], ["a"], [1, 3], 1, 1, [DescribedRound(1, [4])]),
        labels={"a": MASK.float()},
        examples={"1|a|features": torch.zeros(2, 1), "1|a|share": torch.zeros(2)},
    ),
    "label at initialization": sample(
        LabelResult(["magnitude"], ["a"], [1, 3], 1, 1),
        labels={"a": MASK.float()},
        examples={"a|features": torch.zeros(2, 1), "a|share": torch.zeros(2)},
    ),
    "mask": sample(
        MaskResult(4, {"a": 3}, [FINDING], {"a": 3}, {"a": 2}, {"a": 2}, None, {"a": None}, ["a note"]),
        "notes",
        masks={"a": MASK},
    ),
    "shuffle": sample(MaskResult(4, {"a": 3}, []), masks={"a": MASK}),
    "sanity": sample(SanityResult("snip", {"snip": 50.0}, 0.5, "", 50.0, 25.0)),
    "sanity, left out": sample(SanityResult("snip", {}, None, "its training diverged")),
    "scorer": sample(ScorerResult("mlp", {"width": 8}, 1, None, CHOICE), "selection", state={"a": torch.zeros(2)}),
    "pretrained": sample(ScorerResult("mlp", {}, 1, {"layer": 1}), "features", state={"a": torch.zeros(2)}),
    "trial": sample(TRIAL, "validation_accuracy", "selection"),
    "tune": sample(
        TuneResult({"width": 8}, TRIAL, CHOICE), "selection", "best", "best.validation_accuracy", "best.selection"
    ),
    "tune without trials": sample(TuneResult({"width": 8})),
    "emit": sample(EmitResult(9, 12, 0.0, 0.0, 50.0, "onnxruntime", {"1": SPEED}, 1), read=read_emission, model=MODEL),
    "emit, failed": sample(FailedEmission("it has no such layer", 1), read=read_emission),
}
# Files whose names and shapes nothing else in the artifact says.
OPEN = {("train", "state"), ("rewind", "state"), ("scorer", "state"), ("pretrained", "state")}
JSON = [name for name, one in SAMPLES.items() if one.result.FILE]


def publish(folder: Path, one: Sample, files: Mapping[str, bytes | None]) -> Artifact:
    """The sample's artifact, with other `files` under right digests; None leaves one out."""

    def write(draft: Any) -> None:
        one.result.write(draft, **one.tensors)
        for name, data in files.items():
            draft.remove(name) if data is None else draft.write(name, data)

    return Store(folder).publish("kind", KEY, write, lambda: {"created": "today"})


def read_whole(one: Sample, artifact: Artifact) -> StepResult:
    """Read the result and all of its tensors."""
    result = one.read(artifact)
    for name, item in inspect.getmembers_static(type(result)):
        if isinstance(item, cached_property):
            getattr(result, name)
    return result


def paths_of(value: Any, before: str = "") -> Iterator[str]:
    """The fields of a JSON value that are those of a dataclass: `kept`, `layers.0.size`, `best.value`."""
    for name in value:
        yield f"{before}{name}"
    for name in ("best", "layers", "findings", "rounds"):
        part = value.get(name)
        if isinstance(part, list) and part and isinstance(part[0], dict):
            yield from paths_of(part[0], f"{before}{name}.0.")
        elif name == "best" and part:
            yield from paths_of(part, f"{before}{name}.")


FIELDS = [(name, path) for name in JSON for path in paths_of(SAMPLES[name].result.json())]


def changed(one: Sample, path: str, change: Callable[[Any, Any], None]) -> dict[str, bytes | None]:
    """The JSON file after a change of the mapping that holds a field."""
    value = json.loads(canonical(one.result.json()))
    *before, last = path.split(".")
    part = value
    for name in before:
        part = part[int(name) if name.isdecimal() else name]
    change(part, last)
    return {f"{one.result.FILE}.json": canonical(value).encode()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_result_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    """Fields and tensors come back; a field that equals its default is not in the file."""
    one = SAMPLES[name]
    result = read_whole(one, artifact := publish(tmp_path, one, {}))

    assert one.result == result
    if one.result.FILE:
        assert canonical(result.json()).encode() == artifact.read(f"{one.result.FILE}.json")


def test_every_kind_of_step_has_a_result() -> None:
    """A new kind is added to the samples."""
    assert {*operations.names} == {*SAMPLES} & {*operations.names}


@pytest.mark.parametrize(("name", "path"), FIELDS)
def test_a_result_without_a_field_is_damaged(name: str, path: str, tmp_path: Path) -> None:
    """The error has the key, and names the file."""
    one = SAMPLES[name]
    artifact = publish(tmp_path, one, changed(one, path, lambda part, field: part.pop(field)))
    if path in one.optional:
        read_whole(one, artifact)
        return

    with pytest.raises(DamagedArtifact, match=r"\.(json|safetensors): ") as caught:
        read_whole(one, artifact)
    assert (KEY, "today") == (caught.value.key, caught.value.created)


@pytest.mark.parametrize(("name", "path"), FIELDS)
def test_a_field_of_another_type_is_damaged(name: str, path: str, tmp_path: Path) -> None:
    """A text for a number, a number for a text, a list around either."""
    one, field = SAMPLES[name], path.rpartition(".")[2]
    for wrong in (lambda value: 5 if isinstance(value, str) else "odd", lambda value: [value]):

        def put(part: Any, field: str, wrong: Callable[[Any], Any] = wrong) -> None:
            part[field] = wrong(part[field])

        artifact = publish(tmp_path, one, changed(one, path, put))

        with pytest.raises(DamagedArtifact, match=rf"{one.result.FILE}\.json: .*{field}"):
            read_whole(one, artifact)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'"text"', b"null", b"\xff"])
@pytest.mark.parametrize("name", JSON)
def test_a_file_that_is_no_mapping_is_damaged(name: str, content: bytes, tmp_path: Path) -> None:
    """No JSON, or JSON of something else."""
    one = SAMPLES[name]
    artifact = publish(tmp_path, one, {f"{one.result.FILE}.json": content})

    with pytest.raises(DamagedArtifact, match=rf"{one.result.FILE}\.json: "):
        read_whole(one, artifact)


TENSORS = [
    (name, file, tensor)
    for name, one in SAMPLES.items()
    if name != "emit"  # a model's files are read by its format
    for file, tensors in one.tensors.items()
    for tensor in tensors
]


@pytest.mark.parametrize(("name", "file", "tensor"), TENSORS)
def test_a_file_of_other_tensors_is_damaged(name: str, file: str, tensor: str, tmp_path: Path) -> None:
    """A tensor is missing, has another shape or type, or the file is missing or no safetensors."""
    one = SAMPLES[name]
    others = {key: value for key, value in one.tensors[file].items() if key != tensor}
    odd = torch.full((7, 1), 0.5, dtype=torch.float64)
    wrong: list[bytes | None] = [None, b"", b"{}" * 20]
    if (name, file) not in OPEN:
        wrong += [dump_tensors(others), dump_tensors({**others, tensor: odd})]
    for content in wrong:
        artifact = publish(tmp_path, one, {f"{file}.safetensors": content})

        with pytest.raises(DamagedArtifact, match=rf"({file}|{file[:5]}[-0-9]*|labels)\.safetensors") as caught:
            read_whole(one, artifact)
        assert KEY == caught.value.key


SPEC = """\
version: 1
model: {name: mlp, widths: [8]}
dataset: digits
budget: 0.8
target: {device: cpu, threads: 1}
method: snip
compare: []
controls: []
training: {epochs: 1, batch: 128, lr: 0.05, crop: 0, flip: false, precision: float32}
emit: []
"""


@pytest.mark.parametrize(
    ("operation", "file", "content", "lost"),
    [
        ("evaluate", "result.json", b"[]", ()),
        ("mask", "result.json", b'{"kept": {}}', ("train", "evaluate")),
        ("train", "state.safetensors", dump_tensors({"odd": torch.zeros(1)}), ("evaluate",)),
    ],
)
def test_a_result_of_another_form_is_made_again(
    here: Workspace,
    capsys: pytest.CaptureFixture[str],
    operation: str,
    file: str,
    content: bytes,
    lost: tuple[str, ...],
) -> None:
    """It has the right digests, and is read by another step or by the report."""
    (here.folder / "small.yaml").write_text(SPEC)
    first = call(capsys, "run small.yaml --json")
    (folder,) = (here.cache / "artifacts" / operation).iterdir()
    before = (folder / file).read_bytes()
    about = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(folder / "artifact.json", lambda descriptor: {**descriptor, "files": {**descriptor["files"], file: about}})
    (folder / file).write_bytes(content)
    store = Store.default()
    for other in lost:
        (artifact,) = (here.cache / "artifacts" / other).iterdir()
        store.remove(other, artifact.name)
    second = call(capsys, "run small.yaml --json")

    assert (0, 0) == (first.code, second.code), second.err
    assert f"{file}: " in second.err
    assert "is run again" in second.err
    assert before == (folder / file).read_bytes()
    assert first.json["results"] == second.json["results"]
