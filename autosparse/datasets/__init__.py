"""Datasets by name; nothing is read until one is loaded."""

from autosparse.datasets import digits, image_folder, parquet, torchvision, user_code
from autosparse.datasets._base import Dataset, Part, datasets, open_source
from autosparse.datasets.source import Pool, Source, Split, Splits

__all__ = [
    "Dataset", "Part", "Pool", "Source", "Split", "Splits", "datasets", "digits", "image_folder", "open_source",
    "parquet", "torchvision", "user_code",
]  # fmt: skip
