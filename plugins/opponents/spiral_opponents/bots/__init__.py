"""Bots that are not written for one game."""
