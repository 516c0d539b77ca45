"""scikit-learn's 1,797 handwritten digits: real images that need no download."""

from __future__ import annotations

import hashlib

from autosparse.datasets._base import datasets
from autosparse.datasets.decode import array_split
from autosparse.datasets.source import Pool, Split
from autosparse.errors import MissingData

_DIGEST = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"


@datasets.register(validation=300, test=300)
def digits() -> Pool:
    """1,797 handwritten digits of 8 x 8 pixels, in scikit-learn; split 1,197 / 300 / 300 in a fixed shuffled order."""
    return Pool(
        identity={"name": "digits", "sha256": _DIGEST},
        shape=(1, 8, 8),
        classes=tuple("0123456789"),
        train_images=1797,
        load=_load,
    )


def _load(size: int | None) -> tuple[Split, None, None]:
    import numpy
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = numpy.rint(bunch.images * (255 / 16)).astype("uint8")[..., None]
    labels = bunch.target.astype("int64")
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if digest != _DIGEST:
        raise MissingData(f"scikit-learn's digits are not the published ones: sha256 {digest[:12]}, not {_DIGEST[:12]}")
    return array_split((pixels, labels), size), None, None
