"""Registers the first-party opponent samplers, and the bots that play any game."""

import spiral
from spiral.hookspecs import Register
from spiral_opponents.bots import PerfectBot, RandomBot
from spiral_opponents.fixed import Fixed
from spiral_opponents.mirror import Mirror


@spiral.hookimpl
def register_opponents(register: Register) -> None:
    register("fixed", Fixed)
    register("mirror", Mirror)


@spiral.hookimpl
def register_bots(register: Register) -> None:
    register("perfect", PerfectBot)
    register("random", RandomBot)
