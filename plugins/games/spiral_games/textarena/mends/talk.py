"""Mends of matrix games, negotiations and games of words and roles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any


def truth_and_deception_takes_one_fact(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """A guess that names both facts is always right (line 76)."""
    both = env.guess_fact1_pattern.search(action) and env.guess_fact2_pattern.search(action)
    guessing = env.state.turn == env.state.max_turns - 1
    return as_shipped("" if both and guessing else action)  # nothing is named, which is refused


def codenames_reads_capitals(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """A clue may be the word itself, written in capitals (line 75)."""
    return as_shipped(action.lower() if env.state.current_player_id in (0, 2) else action)


def prisoners_dilemma_takes_one_decision(env: Any, as_shipped: Callable[[str], None], action: str) -> None:
    """A decision that cannot be read is played as cooperation (line 77)."""
    if bool(env.cooperate_pattern.search(action)) == bool(env.defect_pattern.search(action)):
        env.state.set_invalid_move(reason="Decide by either '[Cooperate]' or '[Defect]'.")
    else:
        as_shipped(action)


def stag_hunt_takes_one_decision(env: Any, as_shipped: Callable[..., None], action: str) -> None:
    """A decision that cannot be read is played as hare (line 99)."""
    if bool(env.stag_pattern.search(action)) == bool(re.search(r"\[hare\]", action, re.IGNORECASE)):
        env.state.set_invalid_move(reason="Decide by either '[stag]' or '[hare]'.")
    else:
        as_shipped(action=action)


def equal_scores_are_drawn(env: Any, as_shipped: Callable[[], None]) -> None:
    """Equal scores of all players, which the environment calls a draw, pay all as winners (line 342, or 346)."""
    as_shipped()
    if set(env.state.rewards.values()) == {1}:
        env.state.rewards = dict.fromkeys(env.state.rewards, 0)


def blind_auction_returns_lost_bids(env: Any, as_shipped: Callable[[], None]) -> None:
    """Bids that win nothing are lost, though the results list them as not spent (line 139)."""
    state = env.state.game_state
    for player, bids in state["player_bids"].items():
        others = state["player_bids"][1 - player]
        spent = sum(bid for item, bid in bids.items() if bid > others.get(item, 0))
        state["remaining_capital"][player] = env.starting_capital - spent
    as_shipped()


def secret_mafia_kills_every_night(env: Any, as_shipped: Callable[[], None]) -> None:
    """Once doctor and detective are dead, nights pass without a kill (line 172)."""
    as_shipped()
    if env._compute_next_phase().name == "DAY_DISCUSSION":
        env._resolve_night_outcome()


MENDS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "TruthAndDeceptionEnv": {"step": truth_and_deception_takes_one_fact},
    "CodenamesEnv": {"step": codenames_reads_capitals},
    "IteratedPrisonersDilemmaEnv": {"_handle_decision_phase": prisoners_dilemma_takes_one_decision},
    "IteratedStagHuntEnv": {"_handle_decision_phase": stag_hunt_takes_one_decision},
    "PublicGoodsGameEnv": {"_determine_winner": equal_scores_are_drawn},
    "MarketEntryGameEnv": {"_determine_winner": equal_scores_are_drawn},
    "SimpleBlindAuctionEnv": {"_determine_auction_results": blind_auction_returns_lost_bids},
    "SecretMafiaEnv": {"_store_mafia_target": secret_mafia_kills_every_night},
}
