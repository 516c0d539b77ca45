"""The plan compiler: a spec becomes steps with keys; the store shows which artifacts exist."""
