"""Units of pruning and their costs."""
