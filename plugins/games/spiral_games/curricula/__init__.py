"""Curricula: samplers of the next game, of which a run names one as its `curriculum`."""
