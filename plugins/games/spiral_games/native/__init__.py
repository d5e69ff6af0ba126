"""Games written for spiral."""
