"""Answers to limits and bugs of torch; each module names the one it answers."""
