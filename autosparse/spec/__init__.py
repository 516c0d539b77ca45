"""Specs: validated YAML, with the place of every value."""

from autosparse.spec.discovery import FILE, Found, find_spec, remember_spec
from autosparse.spec.load import LoadedSpec, load_spec
from autosparse.spec.resolve import provenance, resolve
from autosparse.spec.sections import DENSE, Method, Spec
from autosparse.spec.shipped import shipped

__all__ = [
    "DENSE", "FILE", "Found", "LoadedSpec", "Method", "Spec", "find_spec", "load_spec", "provenance", "remember_spec",
    "resolve", "shipped",
]  # fmt: skip
