"""R2 on rows that share nothing alone, since those of games take minutes more."""

from perf.learning import wide_figures as figures

__all__ = ["figures"]
