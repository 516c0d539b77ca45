"""Tests of sparse kernels."""
