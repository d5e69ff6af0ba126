"""Legal moves of card and dice games, read off the environment's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def kuhn_poker(env: Any) -> list[str]:
    """What the betting so far allows."""
    return list(env.state.game_state["current_legal_action_tree"])


def pig_dice(env: Any) -> list[str]:
    return ["roll", "hold"]


def liars_dice(env: Any) -> list[str]:
    """A call, and every bid that raises quantity or face, lowers neither, and names no more dice than there are."""
    state = env.state.game_state
    quantity, face = state["current_bid"]["quantity"], state["current_bid"]["face_value"]
    dice = sum(state["remaining_dice"].values())
    bids = [
        f"bid: {more}, {higher}"
        for more in range(max(quantity, 1), dice + 1)
        for higher in range(max(face, 1), 7)
        if (more, higher) != (quantity, face)
    ]
    return ["call", *bids] if state["last_bidder_id"] is not None and quantity else bids


def hand_of_faces(env: Any) -> list[str]:
    """Cards of one suit that are left, A to K."""
    hand = env.state.game_state["player_hands"][env.state.current_player_id]
    return [env._val_to_face(card) for card in hand]


def money_cards(env: Any) -> list[str]:
    """Money cards that are left."""
    return [str(card) for card in env.state.game_state["player_money"][env.state.current_player_id]]


def briscola(env: Any) -> list[str]:
    """Positions in the hand: every card may be played."""
    hand = env.state.game_state["players"][env.state.current_player_id]["hand"]
    return [f"play {position}" for position in range(1, len(hand) + 1)]


def german_whist(env: Any) -> list[str]:
    """Positions in the hand whose card follows suit, where the suit can be followed."""
    player = env.state.current_player_id
    hand = env.state.game_state["players"][player]["hand"]
    return [f"play {i}" for i, card in enumerate(hand, 1) if env._is_valid_play(player, card)]


def blackjack(env: Any) -> list[str]:
    return ["hit", "stand"]


def secretary(env: Any) -> list[str]:
    return ["accept", "continue"]


LISTERS: Mapping[str, Callable[[Any], list[str]]] = {
    "KuhnPokerEnv": kuhn_poker,
    "PigDiceEnv": pig_dice,
    "LiarsDiceEnv": liars_dice,
    "GameOfPureStrategyEnv": hand_of_faces,
    "ThreePlayerGOPSEnv": hand_of_faces,
    "HighSocietyEnv": money_cards,
    "BriscolaEnv": briscola,
    "GermanWhistEnv": german_whist,
    "BlackjackEnv": blackjack,
    "SecretaryEnv": secretary,
}
