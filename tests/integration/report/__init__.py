"""Tests of reports of whole runs."""
