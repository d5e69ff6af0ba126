"""Resamplers for games of simultaneous moves and open deals: each redraws what a player does not know.

What a player does not know in these games is what the others have chosen in the present round, and the chance to come;
the latter the adapter redraws by a new generator.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from spiral_games.textarena.legal_moves.boards import DIRECTIONS


def pending_directions(env: Any, player: int, rng: random.Random) -> None:
    for other, action in env.pending_actions.items():
        if other != player and action is not None:
            env.pending_actions[other] = f"[{rng.choice(DIRECTIONS)}]"


def pending_cards(env: Any, player: int, rng: random.Random) -> None:
    """The others' cards in play go back into their hands, which play another; prizes to come are shuffled."""
    state = env.state.game_state
    for other, card in state["pending_bids"].items():
        if other != player:
            hand = state["player_hands"][other]
            hand.append(card)
            hand.sort()
            state["pending_bids"][other] = hand.pop(rng.randrange(len(hand)))
    later = state["prize_deck"][state["round"] :]
    rng.shuffle(later)
    state["prize_deck"][state["round"] :] = later


def pending_money(env: Any, player: int, rng: random.Random) -> None:
    """The others bid another of their money cards; prestige cards to come are shuffled."""
    state = env.state.game_state
    for other in state["pending_bids"]:
        if other != player:
            state["pending_bids"][other] = rng.choice(state["player_money"][other])
    rng.shuffle(state["prestige_deck"])


RESAMPLERS: Mapping[str, Callable[[Any, int, random.Random], None]] = {
    "SnakeEnv": pending_directions,
    "SurroundEnv": pending_directions,
    "GameOfPureStrategyEnv": pending_cards,
    "ThreePlayerGOPSEnv": pending_cards,
    "HighSocietyEnv": pending_money,
}
