"""Tests of failures, workers, data parallelism and clusters."""
