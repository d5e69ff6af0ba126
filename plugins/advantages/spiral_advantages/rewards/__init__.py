"""Reward shapers: what a run may pay beside the game's return; none is used unless a run names it."""
