"""Tests of units of pruning."""
