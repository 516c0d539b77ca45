"""Tests of measurements in processes."""
