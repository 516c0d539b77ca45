"""Tests of workarounds for torch."""
