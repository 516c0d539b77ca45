"""Tests of pages of whole runs."""
