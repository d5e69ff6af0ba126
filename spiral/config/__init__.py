"""The configuration of a run: its schema, its rules and how it is read."""
