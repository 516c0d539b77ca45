"""Results of steps: read as they were written, and as damaged artifacts where their content has another form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autosparse.core.features import Features, columns_of
from autosparse.core.graph.connectivity import Finding
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.training.updates import Change
from autosparse.core.units.latency import Curve, LatencyTable
from autosparse.core.weights import Tensors
from autosparse.errors import DamagedArtifact
from autosparse.exporters import Quartiles, Speed
from autosparse.steps import StepResult, check, operations
from autosparse.steps.context import images_of, masks_of
from autosparse.steps.data import DataResult
from autosparse.steps.emit import EmitResult, FailedEmission, read_emission
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RewindResult, RoundResult
from autosparse.steps.label import DescribedRound, LabelResult
from autosparse.steps.latency import Conditions, LatencyResult
from autosparse.steps.mask_result import MaskResult
from autosparse.steps.sanity import SanityResult
from autosparse.steps.scorer import ScorerResult
from autosparse.steps.tickets.orders import StagesResult, TicketResult
from autosparse.steps.train import EvaluateResult, LayerResult, SparseTrainResult, TrainResult, read_trained
from autosparse.steps.tuning.chosen_recipe import ChosenRecipe
from autosparse.steps.tuning.study import TrialResult, TuneResult
from autosparse.store import Artifact, Draft, Store, canonical, dump_tensors
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
MODEL = {"model": {"a": torch.zeros(2, 2)}, "masks": {"a": MASK}}
MODEL_BYTES = sum(len(dump_tensors(tensors)) for tensors in MODEL.values())
SPLIT = {"pixels": torch.zeros(2, 3, 3, 1, dtype=torch.uint8), "labels": torch.tensor([0, 1])}
SPLITS = {"train": SPLIT, "validation": SPLIT, "test": SPLIT}
COLUMNS = len(columns_of(groups_of("mlp", {})))
PERCEPTRON = {
    "columns": torch.arange(COLUMNS),
    "0.weight": torch.zeros(1, COLUMNS),
    "0.bias": torch.zeros(1),
}
MLP = {"name": "mlp", "options": {"width": 8}}
SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}}
STATISTICS = {"mean": torch.tensor([0.5]), "spread": torch.tensor([0.25])}


def read_data(artifact: Artifact) -> DataResult:
    """A dataset's result, with the images of a split, in memory and on disk."""
    result = DataResult.read(artifact)
    for in_memory in (True, False):
        result.images("train", in_memory=in_memory)
    return result


@dataclass(frozen=True)
class Sample:
    """A result with its tensors and its step's options; `read` reads it, `optional` fields may be absent."""

    result: StepResult
    tensors: Mapping[str, Tensors]
    read: Callable[[Artifact], StepResult]
    optional: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def sample(result: StepResult, *optional: str, read: Any = None, options: Any = None, **tensors: Tensors) -> Sample:
    """A sample that its own class reads."""
    return Sample(result, tensors, read or type(result).read, optional, options or {})


_CURVE = Curve([1.0, 2.0], [0.001, 0.002])
_TABLE = LatencyTable(16, {"a": 4}, {"a": {"plain": _CURVE}}, {"plain": _CURVE})
SAMPLES: dict[str, Sample] = {
    "latency": sample(
        LatencyResult(
            Conditions(1, 1, "onnxruntime"),
            0.01,
            LatencyTable(16, {"a": 4}, {"a": {"plain": _CURVE}}, {"plain": _CURVE}),
        )
    ),
    "data": sample(DataResult(), read=read_data, statistics=STATISTICS, **SPLITS),
    "data in shards": sample(
        DataResult(),
        read=read_data,
        statistics=STATISTICS,
        **{**SPLITS, "train": {"labels": torch.arange(4)}},
        **{f"train-0000{number}": {"pixels": SPLIT["pixels"]} for number in (0, 1)},
    ),
    "ticket": sample(
        TicketResult({"name": "mlp", "options": {}}, (1, 8, 8), 10, 300, 4, "search", [0.5]),
        state={"a": torch.zeros(2, 2)},
        order={"a": torch.tensor([[1, 0], [2, 3]], dtype=torch.int32)},
    ),
    "kept_ticket": sample(
        TicketResult({"name": "mlp", "options": {}}, (1, 8, 8), 10, 300, 4, "irp", [0.5, 0.75]),
        state={"a": torch.zeros(2, 2)},
        order={"a": torch.tensor([[1, 0], [2, 3]], dtype=torch.int32)},
    ),
    "search_stages": sample(
        StagesResult(4, [0.25, 0.75], [{"a": 3}, {"a": 1}]),
        "notes",
        order={"a": torch.tensor([[1, 0], [2, 3]], dtype=torch.int32)},
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
        labels={"a": MASK.to(torch.int16)},
        examples={"1|a|features": torch.zeros(2, 1), "1|a|share": torch.zeros(2)},
    ),
    "label at initialization": sample(
        LabelResult(["magnitude"], ["a"], [1, 3], 1, 1),
        labels={"a": MASK.to(torch.int16)},
        examples={"a|features": torch.zeros(2, 1), "a|share": torch.zeros(2)},
    ),
    "mask": sample(
        MaskResult(4, {"a": 3}, [FINDING], {"a": 3}, {"a": 2}, {"a": 2}, None, {"a": None}, ["a note"]),
        "notes",
        masks={"a": MASK},
    ),
    "sparse_train": sample(
        SparseTrainResult([0.5], 4, {"a": 3}, [Change(9, 3, 1)]),
        read=read_trained,
        state={"a": torch.zeros(2, 2)},
        masks={"a": MASK},
    ),
    "choose_recipe": sample(
        ChosenRecipe([{"lr": 0.1}, {"lr": 9.0}], [50.0, None], 0), options={"values": [{"lr": 0.1}, {"lr": 9.0}]}
    ),
    "final_mask": sample(MaskResult(4, {"a": 3}, []), masks={"a": MASK}),
    "shuffle": sample(MaskResult(4, {"a": 3}, []), masks={"a": MASK}),
    "sanity": sample(SanityResult("snip", {"snip": 50.0}, 0.5, "", 50.0, 25.0)),
    "sanity, left out": sample(SanityResult("snip", {}, None, "its training diverged")),
    "scorer": sample(ScorerResult("mlp", {"width": 8}, 1, None, CHOICE), "selection", state=PERCEPTRON),
    "pretrained": sample(
        ScorerResult("mlp", {}, 1, dict.fromkeys(groups_of("mlp", {}), 1)), "features", state=PERCEPTRON
    ),
    "trial": sample(TRIAL, "validation_accuracy", "selection", options={"space": SPACE}),
    "tune": sample(
        TuneResult({"width": 8, "lr": 0.1}, TRIAL, CHOICE),
        "selection",
        "best.validation_accuracy",
        "best.selection",
        options={"scorer": MLP},
    ),
    "tune without trials": sample(TuneResult({"width": 8}), options={"scorer": MLP}),
    "emit": sample(
        EmitResult(MODEL_BYTES, 12, 0.0, 0.0, 50.0, "PyTorch", {"1": SPEED, "32": SPEED}, 1),
        read=read_emission,
        options={"format": "safetensors"},
        **MODEL,
    ),
    "emit, failed": sample(FailedEmission("it has no such layer", 1), read=read_emission),
}
# Files whose names and shapes nothing else in the artifact says.
OPEN = {("train", "state"), ("sparse_train", "state"), ("rewind", "state")}
JSON = [name for name, one in SAMPLES.items() if one.result.FILE]


def publish(folder: Path, one: Sample, files: Mapping[str, bytes | None]) -> Artifact:
    """The sample's artifact, with other `files` under right digests; None leaves one out."""

    def write(draft: Any) -> None:
        one.result.write(draft, **one.tensors)
        if one.result.FILE == "measured":
            about = {name: file for name, file in draft.files.items() if name != "measured.json"}
            draft.write("card.json", json.dumps({"files": about}).encode())
        for name, data in files.items():
            draft.remove(name) if data is None else draft.write(name, data)

    operation = next(name.partition(",")[0].partition(" ")[0] for name, other in SAMPLES.items() if other is one)
    about = {"created": "today", "options": one.options, "version": operations[operation].version}
    return Store(folder).publish(operation, KEY, write, lambda: about, replace=True)


def altered(artifact: Artifact, files: Mapping[str, bytes | None]) -> Artifact:
    """An artifact with other files under right digests; None leaves one out."""
    about = dict(artifact.files)
    for name, data in files.items():
        about.pop(name, None)
        if data is not None:
            (artifact.folder / name).write_bytes(data)
            about[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return replace(artifact, descriptor={**artifact.descriptor, "files": about})


def read_whole(one: Sample, artifact: Artifact) -> StepResult:
    """Read the result and all of its files, as `cache verify` does."""
    result = one.read(artifact)
    check(artifact)
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


@pytest.mark.parametrize("name", ["init", "evaluate"])
def test_a_layer_may_be_empty(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Linear(0, n)`, which is a prunable layer without a weight."""
    one = SAMPLES[name]
    result: Any = one.result
    if name == "init":
        result, tensors = replace(result, layers={**result.layers, "none": 0}), {"none": torch.zeros(9, 0)}
    else:
        layers, tensors = [*result.layers, LayerResult("none", 0, 0, 0, 0, 0, 0, 1, None)], {}
        result = replace(result, layers=layers, channels=3)
    states = {file: {**given, **tensors} for file, given in one.tensors.items()}
    other = replace(one, result=result, tensors=states)
    monkeypatch.setitem(SAMPLES, f"{name} with an empty layer", other)

    assert other.result == read_whole(other, publish(tmp_path, other, {}))


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


NO_MAPPINGS = [b"", b"{", b"[]", b"5", b'"text"', b"null", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000]


@pytest.mark.parametrize("name", JSON)
def test_a_file_that_is_no_mapping_is_damaged(name: str, tmp_path: Path) -> None:
    """No JSON, JSON of something else, or JSON too deep or long to read."""
    one = SAMPLES[name]
    intact = publish(tmp_path, one, {})
    for content in NO_MAPPINGS:
        artifact = altered(intact, {f"{one.result.FILE}.json": content})

        with pytest.raises(DamagedArtifact, match=rf"{one.result.FILE}\.json: "):
            read_whole(one, artifact)


def numbers_of(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all numbers in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in pairs:
        yield from numbers_of(part, (*before, name))
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield before


ODD_NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 400, b"-1e300", b'"5"', b"[]", b"{}", b"null"]


@pytest.mark.parametrize("name", JSON)
def test_an_odd_number_is_damaged(name: str, tmp_path: Path) -> None:
    """A number that is not finite or too large, or something else in its place; `null` only where it has a meaning."""
    one = SAMPLES[name]
    value, intact = json.loads(canonical(one.result.json())), publish(tmp_path, one, {})
    for path in numbers_of(value):
        for odd in ODD_NUMBERS:
            changed = json.loads(canonical(value))
            *before, last = path
            part = changed
            for key in before:
                part = part[key]
            part[last] = "ODD"
            content = json.dumps(changed).encode().replace(b'"ODD"', odd)
            artifact = altered(intact, {f"{one.result.FILE}.json": content})
            if odd == b"null" and {path[0], path[-1]} & NULLABLE:
                continue

            with pytest.raises(DamagedArtifact, match=rf"{one.result.FILE}\.json: "):
                read_whole(one, artifact)


NULLABLE = {"overlap", "accuracies", "validation_accuracy", "paths", "paths_through"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_more_or_less_is_damaged(name: str, tmp_path: Path) -> None:
    """A missing file and an extra one are damage; so is a file that the descriptor does not list."""
    one = SAMPLES[name]
    intact = publish(tmp_path, one, {})
    changes: list[dict[str, bytes | None]] = [{"odd.json": b"{}"}]
    changes += [{file: None} for file in intact.files]
    for files in changes:
        artifact = altered(intact, files)

        with pytest.raises(DamagedArtifact) as caught:
            read_whole(one, artifact)
        assert "today" == caught.value.created


@pytest.mark.parametrize("name", JSON)
def test_a_field_more_is_damaged(name: str, tmp_path: Path) -> None:
    """No step writes it."""
    one = SAMPLES[name]
    content = canonical({**one.result.json(), "odd": 1}).encode()
    artifact = publish(tmp_path, one, {f"{one.result.FILE}.json": content})

    with pytest.raises(DamagedArtifact, match="odd"):
        read_whole(one, artifact)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [name for name, one in SAMPLES.items() if one.tensors and name != "emit"])
def test_a_tensor_that_is_not_finite_is_damaged(name: str, odd: float, tmp_path: Path) -> None:
    """Also in place of masks, labels and quotas."""
    one = SAMPLES[name]
    intact = publish(tmp_path, one, {})
    whole = {f"{file}.safetensors": dump_tensors(tensors) for file, tensors in one.tensors.items()}
    for file, tensors in one.tensors.items():
        for tensor, values in tensors.items():
            content = dump_tensors({**tensors, tensor: torch.full(values.shape, odd)})
            artifact = altered(intact, {**whole, f"{file}.safetensors": content})

            with pytest.raises(DamagedArtifact, match="safetensors: "):
                read_whole(one, artifact)


@pytest.mark.parametrize("about", [{"operation": "operatiol"}, {"version": 0}])
def test_an_artifact_of_another_release_is_compared_with_its_digests(tmp_path: Path, about: dict[str, Any]) -> None:
    """No step of this release reads it; a changed byte is still damage."""
    artifact = publish(tmp_path, SAMPLES["rewind"], {})
    other = replace(artifact, descriptor={**artifact.descriptor, **about})
    check(other)
    path = other.folder / next(iter(other.files))
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(DamagedArtifact, match="differs from the published file"):
        check(other)


@pytest.mark.parametrize("name", scorers.names)
def test_the_state_of_every_scorer_is_read(name: str, tmp_path: Path) -> None:
    """The learned state predicts; without one of its tensors it is damaged."""
    entry, random = scorers[name], torch.Generator().manual_seed(0)
    options = {"steps": 1} if "steps" in entry.options else {}
    columns = columns_of(groups_of(name, options))
    layers = {f"0{at}:{layer}": torch.rand(20, len(columns), generator=random) for at in ("", "@1") for layer in "ab"}
    layers = {layer: table for layer, table in layers.items() if bool(entry.facts.get("progressive")) == ("@" in layer)}
    shares = {layer: (table[:, 0] > 0.5).float() for layer, table in layers.items()}
    sizes = dict.fromkeys(layers, 20)
    state = entry.function(Features(columns, layers, sizes), shares, random, lambda *_: None, **options)
    result = ScorerResult(name, options, entry.version)

    def published(state: Tensors) -> Artifact:
        about = {"version": operations["scorer"].version}
        return Store(tmp_path).publish(
            "scorer", KEY, lambda draft: result.write(draft, state=state), lambda: about, replace=True
        )

    check(published(state))
    for tensor in state:
        if name != "paper" or tensor.endswith("weight"):
            with pytest.raises(DamagedArtifact, match=r"state\.safetensors: "):
                check(published({other: value for other, value in state.items() if other != tensor}))


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


def context_of(tmp_path: Path, **changed: StepResult) -> Any:
    """A step's context with the samples as inputs; `changed` results replace theirs."""
    inputs = {}
    for name in ("data", "init"):
        result, tensors = changed.get(name, SAMPLES[name].result), SAMPLES[name].tensors

        def write(draft: Draft, result: StepResult = result, tensors: Mapping[str, Tensors] = tensors) -> None:
            result.write(draft, **tensors)

        inputs[name] = Store(tmp_path).publish(name, KEY, write, dict)
    return SimpleNamespace(inputs=inputs, device=torch.device("cpu"), placement=SimpleNamespace(stream=False))


def test_masks_of_another_network_are_damaged(tmp_path: Path) -> None:
    """As many weights in a layer of the same name, but in another shape: only the network shows it."""
    one = SAMPLES["shuffle"]
    artifact = altered(publish(tmp_path, one, {}), {"masks.safetensors": dump_tensors({"a": MASK.flatten()})})
    check(artifact)

    with pytest.raises(DamagedArtifact, match="not the weights of the network"):
        masks_of({"a": MASK.float()}, MaskResult.read(artifact))


@pytest.mark.parametrize(
    ("texts", "odd"),
    [
        ((), True),
        (("README.md",), False),
        (("README.md", "config.json"), False),
        (("README.md", "predict.py"), True),
    ],
)
def test_an_emitted_model_has_the_files_of_its_format(texts: tuple[str, ...], odd: bool, tmp_path: Path) -> None:
    """All required ones, which its size counts, and of others those that the format may add."""
    one = SAMPLES["emit"]
    measured: Any = one.result

    def write(draft: Draft) -> None:
        size = MODEL_BYTES + len(b"text") * ("README.md" in texts)
        replace(measured, bytes=size).write(draft, **one.tensors)
        for name in texts:
            draft.write(name, b"text")
        about = {name: file for name, file in draft.files.items() if name != "measured.json"}
        draft.write("card.json", json.dumps({"files": about}).encode())

    about = {"created": "today", "options": {"format": "hub"}, "version": operations["emit"].version}
    result = read_emission(Store(tmp_path).publish("emit", KEY, write, lambda: about))

    with pytest.raises(DamagedArtifact, match="not those of the format") if odd else nullcontext():
        result.check_contents()


def test_labels_beyond_the_classes_are_damaged(tmp_path: Path) -> None:
    """The network has one output for a class."""
    init = InitResult({"name": "mlp", "options": {}}, (1, 8, 8), 1, {"a": 4}, {})

    assert 2 == len(images_of(context_of(tmp_path / "fine"), "test"))
    with pytest.raises(DamagedArtifact, match="not of 1 classes"):
        images_of(context_of(tmp_path / "odd", init=init), "test")


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
