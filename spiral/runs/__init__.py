"""A run on disk: its directory, checkpoints, snapshots and logs."""
