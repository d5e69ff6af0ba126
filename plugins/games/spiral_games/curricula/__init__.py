"""Samplers of the next game: a run names one as its `curriculum`; they know games by name, weight and results only."""
