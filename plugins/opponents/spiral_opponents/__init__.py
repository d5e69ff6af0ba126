"""Registers the first-party opponent samplers, and the bots that are not written for one game."""

from spiral import Register, hookimpl
from spiral_opponents.bots.human import Human
from spiral_opponents.bots.minimax import PerfectBot
from spiral_opponents.bots.random_bot import RandomBot
from spiral_opponents.openai_chat.bot import Remote
from spiral_opponents.samplers.fixed import Fixed
from spiral_opponents.samplers.league import League
from spiral_opponents.samplers.mixture import Mixture
from spiral_opponents.samplers.past import LatestK, UniformPast
from spiral_opponents.samplers.rated import Pfsp, RatingWindow
from spiral_opponents.samplers.roles import Roles
from spiral_opponents.samplers.self_play import SelfPlay


@hookimpl
def register_opponents(register: Register) -> None:
    register("fixed", Fixed)
    register("latest_k", LatestK)
    register("league", League)
    register("mirror", SelfPlay)
    register("mixture", Mixture)
    register("pfsp", Pfsp)
    register("rating_window", RatingWindow)
    register("roles", Roles)
    register("uniform_past", UniformPast)


@hookimpl
def register_bots(register: Register) -> None:
    register("human", Human)
    register("perfect", PerfectBot)
    register("random", RandomBot)
    register("remote", Remote)
