"""The documentation is what it says."""
