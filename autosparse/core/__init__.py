"""The science: pure functions over named tensors. No files, no printing, no YAML, no global seeds."""
