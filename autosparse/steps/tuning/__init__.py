"""The steps that tune a scorer, trials with Optuna and their study, and the step that chooses a recipe."""
