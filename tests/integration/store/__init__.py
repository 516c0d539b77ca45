"""Tests of a store that several processes use."""
