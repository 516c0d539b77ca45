"""Tests of measurements that train."""
