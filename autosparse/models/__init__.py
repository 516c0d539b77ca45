"""Networks by name, and their facts for plans before weights exist."""

from autosparse.models import builtin, external
from autosparse.models._base import Shape, Start, build_model, config_of, identify_model, models, split_start

__all__ = ["Shape", "Start", "build_model", "config_of", "identify_model", "models", "split_start"]
