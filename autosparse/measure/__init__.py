"""Measurements of the machine: rates of each kind of work, and a standard training loop to compare with."""
