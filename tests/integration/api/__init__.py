"""Tests of the one-call interface in several processes."""
