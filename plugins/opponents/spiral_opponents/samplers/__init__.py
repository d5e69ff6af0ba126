"""Opponent samplers."""
