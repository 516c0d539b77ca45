"""Orders of all weights, whose highest are the masks of any budget: one search for all budgets, and tickets."""
