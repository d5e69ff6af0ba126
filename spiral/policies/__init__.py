"""Who plays: references to policies, how they are loaded, the pool and its results."""
