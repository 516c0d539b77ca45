"""Tests of the science, with tensors small enough to check by hand."""
