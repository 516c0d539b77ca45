"""Rows of a tensor that lies in several files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from autosparse.store import Rows, dump_tensors

PIXELS = torch.arange(7 * 2 * 3, dtype=torch.uint8).view(7, 2, 3)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Seven rows in three files, beside a tensor that nobody asks for."""
    paths = [tmp_path / f"part-{number}.safetensors" for number in range(3)]
    for path, part in zip(paths, PIXELS.split([3, 3, 1]), strict=True):
        path.write_bytes(dump_tensors({"labels": torch.arange(5), "pixels": part}))
    return paths


def test_rows_are_those_of_the_tensor(files: list[Path]) -> None:
    """Rows of any file come in the order asked for, also twice."""
    rows = Rows(files, "pixels")
    numbers = torch.tensor([6, 0, 3, 3, 2, 5])

    assert ((7, 2, 3), 7) == (rows.shape, len(rows))
    assert torch.equal(PIXELS[numbers], rows[numbers])
    assert (0, 2, 3) == rows[torch.tensor([], dtype=torch.int64)].shape


def test_rows_travel_to_another_process(files: list[Path]) -> None:
    """What was opened here is opened again there."""
    rows = Rows(files, "pixels")
    rows[torch.tensor([0, 6])]

    assert torch.equal(PIXELS, pickle.loads(pickle.dumps(rows))[torch.arange(7)])


def test_a_file_that_ends_too_early_is_told(files: list[Path]) -> None:
    """A file that was cut after it was opened is no row of zeros."""
    rows = Rows(files, "pixels")
    files[1].write_bytes(files[1].read_bytes()[:-4])

    with pytest.raises(OSError, match=r"part-1.safetensors ends too early"):
        rows[torch.tensor([5])]
