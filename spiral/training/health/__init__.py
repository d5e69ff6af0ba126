"""Health of self-play: indicators of a step, their history, and a detector that names what collapsed and when."""
