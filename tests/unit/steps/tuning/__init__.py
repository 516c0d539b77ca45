"""Tests of trials and studies."""
