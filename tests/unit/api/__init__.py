"""Pruning in one call, of small networks and of foreign ones."""
