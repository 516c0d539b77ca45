"""Tests of saved plans and of plans made in several processes."""
