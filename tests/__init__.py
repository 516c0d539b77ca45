"""The tests: `unit` mirrors the package, `integration` runs specs and commands, `docs` follows the documentation."""
