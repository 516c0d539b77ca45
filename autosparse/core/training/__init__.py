"""Training: the loop and recipe that every method shares, rules that change masks, and short trainings on a copy."""
