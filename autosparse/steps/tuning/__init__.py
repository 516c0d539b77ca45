"""The steps that tune a scorer: trials with Optuna, and their study."""
