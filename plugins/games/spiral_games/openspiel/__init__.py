"""OpenSpiel's games, bots and exact theory; pyspiel is imported when a game is made, not before."""

from spiral_games.openspiel.bots import OpenSpielCFR, OpenSpielMCTS, OpenSpielRandom
from spiral_games.openspiel.catalogue import excluded_names, game_names
from spiral_games.openspiel.exploitability import openspiel_nash_conv
from spiral_games.openspiel.game import OpenSpielGame, open_spiel_game

__all__ = [
    "OpenSpielCFR",
    "OpenSpielGame",
    "OpenSpielMCTS",
    "OpenSpielRandom",
    "excluded_names",
    "game_names",
    "open_spiel_game",
    "openspiel_nash_conv",
]
