"""Networks by name, and what plans know of them before weights exist."""

from autosparse.models import builtin, libraries

from autosparse.models import user_code  # isort: skip  # last: its pattern matches the others' names too
from autosparse.models._base import Factory, Shape, Start, build_model, identify_model, models

__all__ = ["Factory", "Shape", "Start", "build_model", "builtin", "identify_model", "libraries", "models", "user_code"]
