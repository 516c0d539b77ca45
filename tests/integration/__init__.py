"""Tests of whole runs: specs, commands, workers, clusters, signals."""
