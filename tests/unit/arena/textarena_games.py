"""Games for the tests of TextArena's client, apart from them: the process that plays imports this file and no more."""

from spiral_games.native.tic_tac_toe import TicTacToe

from spiral.arena.game_worker import installed
from spiral.arena.textarena_client import ENVIRONMENTS
from spiral.config.schema import PluginConfig
from spiral.testing.faults import FaultyGame

NAMES = ("textarena/TicTacToe-v0", "textarena/LiarsDice-v0", "textarena/SimpleNegotiation-v0")


class Told(TicTacToe):
    """Tic-tac-toe that keeps its messages, as TextArena's environments do."""

    def reset(self, rng):
        super().reset(rng)
        self._boards = [self.observe(0)]

    def play(self, move):
        super().play(move)
        self._boards.append(self.observe(0))

    def messages(self, player):
        return [(-1, f"You are Player {player}.", "PROMPT"), *((-1, text, "GAME_BOARD") for text in self._boards)]


def local_games():
    """Games with the names of TextArena's, which need not be imported for them."""
    return {"local/TicTacToe-v0": Told, "local/SimpleTak-v0": FaultyGame, "kuhn_poker": TicTacToe}


def textarena_games():
    """Three of TextArena's environments."""
    return installed([PluginConfig(name) for name in NAMES])()


def every_environment():
    """All that TextArena's client can ask for."""
    return installed([PluginConfig(f"textarena/{name}") for name in ENVIRONMENTS.values()])()
