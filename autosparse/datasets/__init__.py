"""Datasets by name, read only when loaded."""

from autosparse.datasets import builtin, image_folder, parquet, user_code
from autosparse.datasets._base import (
    MOST_CLASSES,
    MOST_VALUES,
    Part,
    Pool,
    Source,
    Split,
    Splits,
    datasets,
    open_source,
)

__all__ = ["MOST_CLASSES", "MOST_VALUES", "Part", "Pool", "Source", "Split", "Splits", "datasets", "open_source"]
