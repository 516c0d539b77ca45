"""Computing with the weights that are left: kernels, training and inference."""
