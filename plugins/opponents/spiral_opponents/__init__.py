"""Registers the first-party opponent samplers, and the bots that play any game."""

from spiral import Register, hookimpl
from spiral_opponents.bots.board_games import PerfectBot, RandomBot
from spiral_opponents.bots.human import Human
from spiral_opponents.openai_chat.bot import Remote
from spiral_opponents.samplers.fixed import Fixed
from spiral_opponents.samplers.league import Exploiter
from spiral_opponents.samplers.mixture import Mixture
from spiral_opponents.samplers.past import LatestK, UniformPast
from spiral_opponents.samplers.rated import Pfsp, RatingWindow
from spiral_opponents.samplers.self_play import Mirror


@hookimpl
def register_opponents(register: Register) -> None:
    register("exploiter", Exploiter)
    register("fixed", Fixed)
    register("latest_k", LatestK)
    register("mirror", Mirror)
    register("mixture", Mixture)
    register("pfsp", Pfsp)
    register("rating_window", RatingWindow)
    register("uniform_past", UniformPast)


@hookimpl
def register_bots(register: Register) -> None:
    register("human", Human)
    register("perfect", PerfectBot)
    register("random", RandomBot)
    register("remote", Remote)
