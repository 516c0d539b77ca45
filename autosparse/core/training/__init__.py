"""Training: the loop and recipe that every method shares, update rules, and short trainings on a copy."""
