"""Reward shapers: rewards beside the game's return; a run uses those that its config names, and none by default."""
