"""Placeholder; replaced by the plug-ins."""
