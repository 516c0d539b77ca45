"""CIFAR-10 by torchvision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from autosparse.datasets import datasets
from autosparse.datasets.source import Source, Splits
from autosparse.errors import MissingData, MissingExtra

_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
_FOLDER = "cifar-10-batches-py"
_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@datasets.register
def cifar10(
    *,
    root: Annotated[str, "folder that holds, or is to hold, torchvision's files"] = "~/.cache/torchvision",
    download: Annotated[bool, "fetch the files if they are not there"] = False,
    validation: Annotated[int, Ge(1), Le(49_000), "training images set aside for every choice"] = 5000,
) -> Source:
    """60,000 colour photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009), torchvision's files."""
    folder = Path(root).expanduser()

    def missing() -> tuple[str, str] | None:
        absent = [name for name in _FILES if not (folder / _FOLDER / name).is_file()]
        if not absent:
            return None
        return (
            f"CIFAR-10 is not in {folder} ({absent[0]} is missing)",
            f'run `python -c "import torchvision; torchvision.datasets.CIFAR10({os.fspath(folder)!r}, '
            'download=True)"`, or set `dataset: {name: cifar10, download: true}`',
        )

    def load() -> Splits:
        if (absent := missing()) is not None and not download:
            raise MissingData(*absent)
        return _load(folder, validation, download=download and absent is not None)

    return Source(
        identity={"name": "cifar10", "md5": _ARCHIVE_MD5, "validation": validation, "order": "pcg64-0"},
        shape=(3, 32, 32),
        classes=10,
        train_images=50_000 - validation,
        test_images=10_000,
        load=load,
        missing=missing,
        fetches=download,
    )


def _load(folder: Path, validation: int, *, download: bool) -> Splits:
    import numpy

    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise MissingExtra("CIFAR-10 needs torchvision", "run `pip install torchvision`") from error
    if download:
        folder.mkdir(parents=True, exist_ok=True)
        CIFAR10(os.fspath(folder), download=True)
    try:  # torchvision compares the files with their published digests before it unpickles them
        train, test = (CIFAR10(os.fspath(folder), train=part) for part in (True, False))
    except RuntimeError as error:
        raise MissingData(
            f"the files of CIFAR-10 in {folder} are not the published ones", "remove them and fetch the set again"
        ) from error
    labels = numpy.asarray(train.targets, dtype="int64")
    order = numpy.random.Generator(numpy.random.PCG64(0)).permutation(len(labels))
    held, rest = order[:validation], order[validation:]
    return Splits(
        train=(train.data[rest], labels[rest]),
        validation=(train.data[held], labels[held]),
        test=(test.data, numpy.asarray(test.targets, dtype="int64")),
    )
