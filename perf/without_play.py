"""R2 on what needs no model that has learnt to play, since the batches of real self-play take minutes more."""

from perf.learning import wide_figures as figures

__all__ = ["figures"]
