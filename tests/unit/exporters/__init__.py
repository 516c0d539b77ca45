"""Tests of export formats."""
