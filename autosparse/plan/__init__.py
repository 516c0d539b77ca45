"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""
