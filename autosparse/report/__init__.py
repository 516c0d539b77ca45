"""What happened, as plain data, and the folders that keep it."""
