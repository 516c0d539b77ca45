"""What the work of a plan is worth: counted, priced, fitted to its target."""
