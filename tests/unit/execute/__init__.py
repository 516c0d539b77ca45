"""Tests of execution with toy steps."""
