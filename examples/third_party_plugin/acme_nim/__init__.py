"""Registers a game, a bot and an advantage estimator."""

from acme_nim.expert import NimExpert
from acme_nim.mean_baseline import MeanBaseline
from acme_nim.nim import Nim
from spiral import Register, hookimpl


@hookimpl
def register_games(register: Register) -> None:
    register("nim", Nim)


@hookimpl
def register_bots(register: Register) -> None:
    register("nim_expert", NimExpert)


@hookimpl
def register_advantages(register: Register) -> None:
    register("mean_baseline", MeanBaseline)
