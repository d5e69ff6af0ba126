"""Registers the first-party games, the bots written for one game or family, and the curricula."""

from spiral import Register, hookimpl
from spiral_games.bots.kuhn_equilibrium import Equilibrium
from spiral_games.curricula.balanced_tokens import BalancedTokens
from spiral_games.curricula.chain import Chain
from spiral_games.curricula.success_band import SuccessBand
from spiral_games.curricula.uniform import Uniform
from spiral_games.native.connect_four import ConnectFour
from spiral_games.native.guess_the_number import GuessTheNumber
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.leduc_poker import LeducPoker
from spiral_games.native.liars_dice import LiarsDice
from spiral_games.native.liars_dice_match import LiarsDiceMatch
from spiral_games.native.mini_hanabi import MiniHanabi
from spiral_games.native.pig_dice import PigDice
from spiral_games.native.resource_negotiation import ResourceNegotiation
from spiral_games.native.simple_negotiation import SimpleNegotiation
from spiral_games.native.snake import SnakeGame
from spiral_games.native.tic_tac_toe import TicTacToe
from spiral_games.native.truth_and_deception import TruthAndDeception
from spiral_games.openspiel import OpenSpielCFR, OpenSpielMCTS, OpenSpielRandom, game_names, open_spiel_game
from spiral_games.textarena import TextArenaGame, environment_ids


@hookimpl
def register_games(register: Register) -> None:
    register("connect_four", ConnectFour)
    register("guess_the_number", GuessTheNumber)
    register("kuhn_poker", KuhnPoker)
    register("leduc_poker", LeducPoker)
    register("liars_dice", LiarsDice)
    register("liars_dice_match", LiarsDiceMatch)
    register("mini_hanabi", MiniHanabi)
    register("negotiation", ResourceNegotiation)
    register("openspiel", open_spiel_game, members=game_names)
    register("pig_dice", PigDice)
    register("simple_negotiation", SimpleNegotiation)
    register("snake", SnakeGame)
    register("textarena", TextArenaGame, members=environment_ids)
    register("tic_tac_toe", TicTacToe)
    register("truth_and_deception", TruthAndDeception)


@hookimpl
def register_bots(register: Register) -> None:
    register("equilibrium", Equilibrium)
    register("openspiel_cfr", OpenSpielCFR)
    register("openspiel_mcts", OpenSpielMCTS)
    register("openspiel_random", OpenSpielRandom)


@hookimpl
def register_curricula(register: Register) -> None:
    register("balanced_tokens", BalancedTokens)
    register("chain", Chain)
    register("success_band", SuccessBand)
    register("uniform", Uniform)
