"""Reports of runs as plain data, and the run folders that store them."""
