"""Mends of card games."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any


def kuhn_poker_bets_move_chips(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """Bet and call move no chips, so that a called bet loses what a fold does (line 83)."""
    state = env.state.game_state
    move = re.search(r"\[(check|bet|fold|call)\]", action, re.IGNORECASE)
    if move and move[1].lower() in ("bet", "call") and move[1].lower() in state["current_legal_action_tree"]:
        state["player_chips"][env.state.current_player_id] -= 1
        state["pot"] += 1
    return as_shipped(action)


def indian_poker_needs_two_checks(env: Any, as_shipped: Callable[[], None]) -> None:
    """From round 2 on a single check ends the round (line 105)."""
    env.state.game_state["second_check"] = False
    as_shipped()


def high_society_counts_cash(env: Any, as_shipped: Callable[[], None]) -> None:
    """The prompt counts remaining cash, the result does not (line 73)."""
    state = env.state.game_state
    for player, money in state["player_money"].items():
        state["player_prestige"][player] += sum(money)
    as_shipped()


def briscola_shares_equal_points(env: Any, as_shipped: Callable[[], Any]) -> Any:
    """Equal points pay player 0 as the winner, and 4 players end in AttributeError (line 336)."""
    env.state.game_state["phase"] = "finished"
    _most_wins(env.state, env.state.game_state["points_won"])
    return env.state.step(rotate_player=False)


def briscola_deals_out_evenly(env: Any, as_shipped: Callable[[], None]) -> None:
    """With 3 players one of the 40 cards is left over, and the match never ends (line 99)."""
    if env.state.num_players == 3:
        env.deck = [card for card in env.deck if (card["rank"], card["suit"]) != ("2", "♣")]
    as_shipped()


def golf_shares_equal_scores(env: Any, as_shipped: Callable[[], None]) -> None:
    """Equal scores pay the first player as the winner, and 3 or 4 players end in AttributeError (line 435)."""
    state = env.state
    # Upstream counts the scores and announces a winner in one function: what it announces is not heard.
    env.state = SimpleNamespace(game_state=state.game_state, num_players=2, set_winner=lambda winner, reason: None)
    try:
        as_shipped()
    finally:
        env.state = state
    _most_wins(state, {player: -cards["score"] for player, cards in state.game_state["players"].items()})


def golf_gives_the_last_turns(env: Any, as_shipped: Callable[[int], Any], num_players: int) -> Any:
    """The last player to move is denied the turn that is promised when another has shown all cards (line 368)."""
    # Upstream counts the turn that ended the round as the first of the turns after it.
    return as_shipped(num_players) | {"rounds_after_knock": -1}


def spite_and_malice_draws_a_deadlock(env: Any, as_shipped: Callable[[], bool]) -> bool:
    """A deadlock with equal payoff piles pays the player who moved last as the winner (line 292)."""
    ended = as_shipped()
    if ended and len(env.players[0]["payoff"]) == len(env.players[1]["payoff"]):
        env.state.set_draw(reason="Deadlock with equal payoff piles.")
    return ended


def poker_leaves_out_the_eliminated(env: Any, as_shipped: Callable[..., None], force: bool = False) -> None:
    """Players who have lost all chips are dealt in, and win pots at showdowns (line 83)."""
    as_shipped(force=force)
    env.state.game_state["folded_players"].update(env.state.elimination_order)


def poker_shares_equal_chips(env: Any, as_shipped: Callable[[], None]) -> None:
    """Of players with equal chips the last in order is paid as the best (line 471)."""
    as_shipped()
    state, chips = env.state, env.state.game_state["player_chips"]
    alive = [player for player in range(state.num_players) if state.is_player_alive(player)]
    rewards = dict(state.rewards)
    for player in alive:
        equal = [rewards[other] for other in alive if chips[other] == chips[player]]
        state.rewards[player] = sum(equal) / len(equal)


def _most_wins(state: Any, scores: Mapping[int, float]) -> None:
    """End the match: 1 for whoever has most and -1 for the rest, 0 for all if all are equal."""
    winners = [player for player, score in scores.items() if score == max(scores.values())]
    if len(winners) == len(scores):
        state.set_draw(reason=f"Equal scores: {scores}.")
    else:
        state.set_winners(player_ids=winners, reason=f"Players {winners} have most of {scores}.")


MENDS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "KuhnPokerEnv": {"step": kuhn_poker_bets_move_chips},
    "IndianPokerEnv": {"_init_round": indian_poker_needs_two_checks},
    "HighSocietyEnv": {"_end_match": high_society_counts_cash},
    "BriscolaEnv": {"_end_game": briscola_shares_equal_points, "_init_game": briscola_deals_out_evenly},
    "GolfEnv": {"_end_game": golf_shares_equal_scores, "_init_game_state": golf_gives_the_last_turns},
    "SpiteAndMaliceEnv": {"_handle_game_end_check": spite_and_malice_draws_a_deadlock},
    "PokerEnv": {"_reset_round": poker_leaves_out_the_eliminated, "_set_outcome": poker_shares_equal_chips},
}
