"""Bots written for one game, by its theory."""
