"""The network as a graph: paths, connectivity, dead channels, and the repair and removal of them."""
