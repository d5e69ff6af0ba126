"""From finished episodes to an update of the weights."""
