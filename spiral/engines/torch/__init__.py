"""Continuous batching in this process, in plain torch."""
