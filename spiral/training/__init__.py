"""The training run: its loop, its steps, recovery and health."""
