"""Opponent samplers: each decides which policies play the next game."""
