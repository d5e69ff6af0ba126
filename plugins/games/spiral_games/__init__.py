"""Registers the first-party games, and the bot that knows the theory of one of them."""

import spiral
from spiral.hookspecs import Register
from spiral_games.equilibrium import Equilibrium
from spiral_games.kuhn_poker import KuhnPoker
from spiral_games.simple_negotiation import SimpleNegotiation
from spiral_games.tic_tac_toe import TicTacToe


@spiral.hookimpl
def register_games(register: Register) -> None:
    register("kuhn_poker", KuhnPoker)
    register("simple_negotiation", SimpleNegotiation)
    register("tic_tac_toe", TicTacToe)


@spiral.hookimpl
def register_bots(register: Register) -> None:
    register("equilibrium", Equilibrium)
