"""Tests of kinds of step in whole runs."""
