"""Tests of the science in processes that may crash, or that compile."""
