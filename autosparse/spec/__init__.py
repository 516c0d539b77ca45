"""Specs: validated YAML, with the position of every value."""

from autosparse.packaged import about_shipped, shipped
from autosparse.spec.budget import CONDITIONS, Amount, BudgetValue, RelativeAmount
from autosparse.spec.learning import Pretrained
from autosparse.spec.load import (
    FILE,
    LoadedSpec,
    SpecPath,
    find_budget,
    find_spec,
    load_spec,
    parse_list,
    remember_spec,
    spec_schema,
    take_spec,
)
from autosparse.spec.method import HORIZON, Method, in_percent
from autosparse.spec.method_name import DENSE
from autosparse.spec.resolve import (
    open_settings,
    provenance,
    resolve,
    selection_of,
    with_horizon,
    with_selections,
    with_settings,
)
from autosparse.spec.sanity import BEST
from autosparse.spec.schema import Spec
from autosparse.spec.target import binary_size

__all__ = [
    "BEST", "CONDITIONS", "DENSE", "FILE", "HORIZON", "Amount", "BudgetValue", "LoadedSpec", "Method", "Pretrained",
    "RelativeAmount", "Spec", "SpecPath", "about_shipped", "binary_size", "find_budget", "find_spec", "in_percent",
    "load_spec", "open_settings", "parse_list", "provenance", "remember_spec", "resolve", "selection_of", "shipped",
    "spec_schema", "take_spec", "with_horizon", "with_selections", "with_settings",
]  # fmt: skip
