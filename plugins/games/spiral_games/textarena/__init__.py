"""TextArena's environments as games of spiral; importing this imports nothing of TextArena."""

from spiral_games.textarena.adapter import TextArenaGame
from spiral_games.textarena.catalogue import environment_ids

__all__ = ["TextArenaGame", "environment_ids"]
