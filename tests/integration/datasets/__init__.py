"""Tests of datasets in plans and runs."""
