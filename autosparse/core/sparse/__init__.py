"""Computation with the remaining weights only: kernels, training and inference."""
