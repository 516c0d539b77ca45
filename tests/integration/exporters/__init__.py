"""Tests of export formats that record networks."""
