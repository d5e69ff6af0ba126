"""Bots that know the theory of one game."""
