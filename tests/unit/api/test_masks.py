"""Masks as a value: what they say, what they refuse, and that files give them back."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import autosparse
from autosparse import Masks
from autosparse.errors import MissingRequirement, UsageError
from tests.unit.api.conftest import checkered, masked, network


def two() -> Masks:
    """Masks of two weights, 3 of 8 kept."""
    return Masks({"b.weight": torch.eye(2).bool(), "a.weight": torch.tensor([[False, True, False, False]])})


def test_numbers_by_hand() -> None:
    """Kept, total and sparsity count every mask; names stay in order."""
    masks = two()

    assert (3, 8, 0.625) == (masks.kept, masks.total, masks.sparsity)
    assert ["b.weight", "a.weight"] == list(masks)
    assert 2 == len(masks)
    assert "Masks(2 weights, 3 of 8 kept: sparsity 0.625)" == repr(masks)


def test_summary_by_hand() -> None:
    """The summary is a table in print, and rows to iterate."""
    summary = Masks(two(), unprunable={"a.bias": "a bias", "b.bias": "a bias", "n.weight": "normalization"}).summary()

    assert [("b.weight", (2, 2), 2, 4, 0.5), ("a.weight", (1, 4), 1, 4, 0.75)] == [
        (row.name, row.shape, row.kept, row.total, row.sparsity) for row in summary
    ]
    assert [
        "weight    shape  kept  of  sparsity",
        "b.weight  2x2       2   4    0.5000",
        "a.weight  1x4       1   4    0.7500",
        "all                 3   8    0.6250",
        "not prunable: a bias: 2, normalization: 1",
    ] == str(summary).splitlines()


def test_masks_are_immutable() -> None:
    """Nothing is assigned to masks, and the tensors that they were made of may change."""
    source = {"weight": torch.ones(2, dtype=torch.bool)}
    masks = Masks(source)
    source["weight"][0] = False

    assert 2 == masks.kept
    assert not hasattr(masks, "__setitem__")


def test_equality() -> None:
    """Masks are equal when they keep the same weights, whatever their order."""
    masks = two()

    assert masks == Masks(dict(reversed([*masks.items()])))
    assert masks == copy.deepcopy(masks)
    assert masks == pickle.loads(pickle.dumps(masks))
    assert masks != Masks({**masks, "a.weight": ~masks["a.weight"]})
    assert masks != Masks({"a.weight": masks["a.weight"]})
    assert masks != Masks({**masks, "a.weight": masks["a.weight"].flatten()})
    assert masks != dict(masks)


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        ({"fc.weight": torch.ones(2)}, r"mask of fc\.weight must be a bool tensor but is torch\.float32"),
        ({"fc.weight": [True]}, r"mask of fc\.weight must be a bool tensor but is list"),
        ({}, "must name at least one weight"),
    ],
)
def test_what_are_no_masks(masks: dict[str, torch.Tensor], sentence: str) -> None:
    """Only bool tensors are masks."""
    with pytest.raises(UsageError, match=sentence):
        Masks(masks)


def test_apply_zeroes_and_keeps() -> None:
    """Masked weights become zero, everything else stays bit for bit."""
    model = network()
    before, masks = copy.deepcopy(model.state_dict()), checkered(model)

    masks.apply(model)

    for name, tensor in model.state_dict().items():
        expected = before[name].masked_fill(~masks[name], 0) if name in masks else before[name]
        assert torch.equal(expected, tensor)


@pytest.mark.parametrize("wrap", ["compiled", "compiled part", "parallel", "average"])
def test_apply_reaches_into_wrappers(wrap: str) -> None:
    """Compiled, parallel and averaged models take the masks of the plain one."""
    model = network()
    masks = checkered(model)
    wrapped: Any = model
    if wrap == "compiled":
        wrapped = torch.compile(model, backend="eager")
    elif wrap == "compiled part":
        model[0] = torch.compile(model[0], backend="eager")  # type: ignore[assignment]
    elif wrap == "parallel":
        wrapped = nn.DataParallel(model)
    else:
        wrapped = torch.optim.swa_utils.AveragedModel(model)

    masks.apply(wrapped)

    weights = [part for part in wrapped.parameters() if part.ndim > 1]
    for mask, weight in zip(masks.values(), weights, strict=True):
        assert not weight.detach()[~mask].any()
        assert weight.detach()[mask].all()


def test_apply_tells_what_does_not_fit() -> None:
    """One error lists unknown names and wrong shapes, and nothing changes."""
    model = network()
    before = copy.deepcopy(model.state_dict())
    kept = checkered(model)
    wrong = Masks({"0.weight": kept["0.weight"], "5.weight": torch.ones(3, 60).bool(), "head.weight": kept["5.weight"]})

    with pytest.raises(UsageError) as caught:
        wrong.apply(model)

    assert (
        "the masks do not fit Sequential: 5.weight is (3, 64) and its mask (3, 60); it has no parameter head.weight"
        == caught.value.message
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_apply_to_what_is_no_model() -> None:
    """A state dict is no model, and a layer that is not built yet has no weights to mask."""
    masks = Masks({"weight": torch.ones(2, 2).bool()})

    with pytest.raises(UsageError, match=r"must be a torch\.nn\.Module but is an OrderedDict"):
        masks.apply(nn.Linear(2, 2).state_dict())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="weight is lazy: it has no shape before its first batch"):
        masks.apply(nn.LazyLinear(2))


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    """Missing, cut, foreign and weight files are refused with their path."""
    whole, cut, foreign, weights = (tmp_path / name for name in ("whole", "cut", "foreign", "weights"))
    two().save(whole)
    cut.write_bytes(whole.read_bytes()[:-1])
    foreign.write_bytes(b"PK\x03\x04 what torch.save writes")
    save_file({"fc.weight": torch.ones(2)}, weights)

    for path, sentence in (
        (tmp_path / "absent", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (cut, "is damaged or not a file of masks"),
        (foreign, "is damaged or not a file of masks"),
        (weights, r"is not a file of masks: the mask of fc\.weight must be a bool tensor but is torch\.float32"),
    ):
        with pytest.raises(UsageError, match=f"{path} {sentence}"):
            Masks.load(path)


def test_masks_that_cannot_be_saved(tmp_path: Path) -> None:
    """A missing folder is an error, and a file in the way of the save stays complete."""
    with pytest.raises(MissingRequirement, match="cannot be written: No such file"):
        two().save(tmp_path / "absent" / "masks.safetensors")
    with pytest.raises(MissingRequirement, match="cannot be written"):
        two().save(tmp_path)

    assert [] == list(tmp_path.iterdir())


def test_loaded_masks_fit_by_name(tmp_path: Path) -> None:
    """Masks of a file apply to a newly built model."""
    masks = checkered(network())
    masks.save(tmp_path / "masks")
    model = network(seed=1)

    Masks.load(tmp_path / "masks").apply(model)

    assert 0 == masked(model, masks).count_nonzero()


def test_what_masks_cut_is_told_before_training() -> None:
    """With inputs every cut is found, on a model that stays as it was; without, only the layers that are emptied."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = torch.ones(3, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    first[1:], second[:, 0] = False, False
    masks = autosparse.Masks({"0.weight": first, "2.weight": second}, model=model)

    assert () == masks.examine()
    assert ["network"] == [finding.kind for finding in masks.examine(torch.zeros(5, 4))]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    second[:] = False
    emptied = autosparse.Masks({"0.weight": first, "2.weight": second})

    assert [("empty", ("2.weight",))] == [(finding.kind, finding.layers) for finding in emptied.examine()]
    with pytest.raises(UsageError, match="do not know which model"):
        emptied.examine(torch.zeros(1, 4))


def test_repair_reconnects_at_the_same_sparsity() -> None:
    """Globally by magnitude the last layer is emptied; with `repair` it is not, and as many weights stay."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 400), nn.ReLU(), nn.Linear(400, 3))
    batches = [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))]

    cut = autosparse.prune(model, batches, sparsity=0.99, method="magnitude")
    mended = autosparse.prune(model, batches, sparsity=0.99, method={"criterion": "magnitude", "repair": "reconnect"})

    assert ["network", "empty"] == [finding.kind for finding in cut.examine(batches[0][0])]
    assert () == mended.examine(batches[0][0])
    assert cut.kept == mended.kept
