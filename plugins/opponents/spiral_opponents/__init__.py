"""Registers the first-party opponent samplers, and the bots that play any game."""

import spiral
from spiral.hookspecs import Register
from spiral_opponents.bots import PerfectBot, RandomBot
from spiral_opponents.exploiter import Exploiter
from spiral_opponents.fixed import Fixed
from spiral_opponents.human import Human
from spiral_opponents.mirror import Mirror
from spiral_opponents.mixture import Mixture
from spiral_opponents.past import LatestK, UniformPast
from spiral_opponents.rated import Pfsp, RatingWindow
from spiral_opponents.remote import Remote


@spiral.hookimpl
def register_opponents(register: Register) -> None:
    register("exploiter", Exploiter)
    register("fixed", Fixed)
    register("latest_k", LatestK)
    register("mirror", Mirror)
    register("mixture", Mixture)
    register("pfsp", Pfsp)
    register("rating_window", RatingWindow)
    register("uniform_past", UniformPast)


@spiral.hookimpl
def register_bots(register: Register) -> None:
    register("human", Human)
    register("perfect", PerfectBot)
    register("random", RandomBot)
    register("remote", Remote)
