"""Tests of backends without a cluster."""
