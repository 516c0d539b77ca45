"""scikit-learn's 1,797 handwritten digits: real images that need no download."""

from __future__ import annotations

import hashlib

from autosparse.datasets import datasets
from autosparse.datasets.source import Source, Splits
from autosparse.errors import MissingData

_TRAIN, _VALIDATION = 1197, 300
_DIGEST = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"


@datasets.register
def digits() -> Source:
    """1,797 handwritten digits of 8 x 8 pixels, in scikit-learn; split 1,197 / 300 / 300 in a fixed shuffled order."""
    return Source(
        identity={"name": "digits", "sha256": _DIGEST, "split": [_TRAIN, _VALIDATION, 300], "order": "pcg64-0"},
        shape=(1, 8, 8),
        classes=10,
        train_images=_TRAIN,
        test_images=300,
        load=_load,
    )


def _load() -> Splits:
    import numpy
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = numpy.rint(bunch.images * (255 / 16)).astype("uint8")[..., None]
    labels = bunch.target.astype("int64")
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if digest != _DIGEST:
        raise MissingData(f"scikit-learn's digits are not the published ones: sha256 {digest[:12]}, not {_DIGEST[:12]}")
    # Writers come in order in the file: shuffled, so that every split has all of them.
    order = numpy.random.Generator(numpy.random.PCG64(0)).permutation(len(labels))
    train, validation, test = numpy.split(order, [_TRAIN, _TRAIN + _VALIDATION])
    return Splits(*((pixels[part], labels[part]) for part in (train, validation, test)))
