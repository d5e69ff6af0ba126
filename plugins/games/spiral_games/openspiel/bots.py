"""OpenSpiel's bots (tree search, CFR+, uniform random) for games named openspiel/..., and no others.

No bot has a memory of the match or a generator of its own: all chance is seeded from the `rng` of the call.
"""

import importlib
import random
from typing import Any

from spiral import Game, SpiralError
from spiral_games.openspiel.catalogue import pyspiel
from spiral_games.openspiel.exploitability import by_move, cfr_rows, cfr_table
from spiral_games.openspiel.game import DealtOpenSpielGame, OpenSpielGame, ResampledOpenSpielGame
from spiral_games.openspiel.resampling import Unresampled, resampler

TRIED_ON = ("openspiel/kuhn_poker", "openspiel/goofspiel", "openspiel/tic_tac_toe")
"""The games that the conformance kit tries these bots on, since they play none outside the family."""


class OpenSpielRandom:
    """OpenSpiel's uniform random player."""

    tried_on = TRIED_ON

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        match = _match(game, "openspiel_random")
        bot = pyspiel().make_uniform_random_bot(player, rng.getrandbits(31))
        return _move(match, bot.step(match.state.clone()))


class OpenSpielCFR:
    """Plays the average policy of CFR+, solved once a game; near a Nash equilibrium of two-player zero-sum games."""

    tried_on = TRIED_ON

    def __init__(self, iterations: int = 200) -> None:
        if iterations < 1:
            raise SpiralError(f"openspiel_cfr got iterations={iterations}; it must be 1 or more.")
        self.iterations = iterations

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        match = _match(game, "openspiel_cfr")
        row = cfr_rows(match.loaded, self.iterations)[match.state.information_state_string(player)]
        chances = by_move(row, match.actions())
        return rng.choices(list(chances), list(chances.values()))[0]

    def table(self, game: OpenSpielGame) -> dict[str, dict[str, float]]:
        """The whole policy as a policy table, {observation: {move: probability}}."""
        return cfr_table(game, self.iterations)


class OpenSpielMCTS:
    """Monte Carlo tree search: UCT with perfect information, ISMCTS where something is hidden.

    ISMCTS (Cowling, Powley and Whitehouse 2012) searches worlds that the player cannot tell from the true one. Leaves
    are valued by one random playout each. Where no such world is found in time, the move is random.
    """

    tried_on = TRIED_ON

    def __init__(self, simulations: int = 100, uct_c: float = 2.0) -> None:
        """simulations: playouts a move; uct_c: the exploration constant of UCT, in units of the game's returns."""
        if simulations < 1 or uct_c <= 0:
            raise SpiralError(
                f"openspiel_mcts got simulations={simulations} and uct_c={uct_c}; both must be more than 0."
            )
        self.simulations, self.uct_c = simulations, uct_c

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        match = _match(game, "openspiel_mcts")
        if match.perfect_information:
            rewards = pyspiel().GameType.RewardModel
            if match.loaded.game.get_type().reward_model != rewards.TERMINAL:
                raise SpiralError(
                    f"The bot openspiel_mcts cannot play openspiel/{match.loaded.name}: it has rewards during "
                    "the match, and OpenSpiel's search takes them at the end only; choose another bot."
                )
            return _move(match, self._searched(match, rng))
        if not isinstance(match, DealtOpenSpielGame | ResampledOpenSpielGame):
            raise SpiralError(
                f"The bot openspiel_mcts cannot play openspiel/{match.loaded.name}: what a player does not know cannot "
                "be redrawn quickly, and without that the search would use hidden information; choose another bot."
            )
        return _move(match, self._searched_in_worlds(match, player, rng))

    def _searched(self, match: OpenSpielGame, rng: random.Random) -> int:
        library = pyspiel()
        evaluator = library.RandomRolloutEvaluator(1, rng.getrandbits(31))
        bot = library.MCTSBot(
            match.loaded.game, evaluator, self.uct_c, self.simulations, 1_000, True, rng.getrandbits(31), False
        )
        return int(bot.step(match.state.clone()))

    def _searched_in_worlds(self, match: OpenSpielGame, player: int, rng: random.Random) -> int:
        ismcts = importlib.import_module("open_spiel.python.algorithms.ismcts")
        mcts = importlib.import_module("open_spiel.python.algorithms.mcts")
        chance = importlib.import_module("numpy").random.RandomState(rng.getrandbits(32))
        bot = ismcts.ISMCTSBot(
            match.loaded.game,
            mcts.RandomRolloutEvaluator(1, chance),
            self.uct_c,
            self.simulations,
            random_state=chance,
        )
        # ISMCTS asks for a world at each simulation; `resampler` says why not OpenSpiel's own.
        bot.set_resampler(_Worlds(match, rng))
        try:
            return int(bot.step(match.state.clone()))
        except Unresampled:
            return rng.choice(list(match.actions().values()))


class _Worlds:
    """Worlds that look alike to the player to move; an old one where a new one is not found in time.

    Raises Unresampled when none is found.
    """

    def __init__(self, match: OpenSpielGame, rng: random.Random) -> None:
        self._rng, self._resample = rng, resampler(match.loaded)
        self._worlds: list[Any] = []

    def __call__(self, state: Any, player: int) -> Any:
        assert self._resample is not None  # `choose` refuses all other games
        try:
            self._worlds.append(self._resample(state, player, self._rng))
        except Unresampled:
            if not self._worlds:
                raise
            return self._rng.choice(self._worlds).clone()
        return self._worlds[-1].clone()


def _match(game: Game, bot: str) -> OpenSpielGame:
    if not isinstance(game, OpenSpielGame):
        raise SpiralError(
            f"The bot {bot} plays games named openspiel/... and was asked to play {type(game).__name__}; "
            "choose another bot."
        )
    return game


def _move(match: OpenSpielGame, action: int) -> str:
    return next(move for move, number in match.actions().items() if number == action)
