"""Tests of networks as graphs of channels."""
