"""Play and learning in several processes: what crosses between them is episodes and weights."""
