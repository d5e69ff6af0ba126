"""Kinds of plug-in, the registry that finds them, and the check of their arguments."""
