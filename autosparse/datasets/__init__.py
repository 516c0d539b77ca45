"""Datasets by name; nothing is read until one is loaded."""

from autosparse.datasets import digits, image_folder, parquet, torchvision

from autosparse.datasets import user_code  # isort: skip  # last: its pattern matches the others' names too
from autosparse.datasets._base import Dataset, datasets, open_source
from autosparse.datasets.source import Pool, Source, Split, Splits
from autosparse.datasets.split import Part

__all__ = [
    "Dataset", "Part", "Pool", "Source", "Split", "Splits", "datasets", "digits", "image_folder", "open_source",
    "parquet", "torchvision", "user_code",
]  # fmt: skip
