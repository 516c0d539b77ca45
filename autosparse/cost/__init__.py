"""The cost of a plan: work counted, priced, and fitted to the target."""
