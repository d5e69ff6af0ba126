"""Refuses, before anything is played, a game whose text does not fit a model's context or whose moves do not fit a
reply: random games show how long both become."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.games import Game, random_legal_move
from spiral.models.prompt_cache import Prompter
from spiral.policies.completer import Completer
from spiral.selfplay.time_limit import limited

NUM_GAMES = 3
"""Random games of each game that are looked at."""
DEADLINE_S = 5.0
"""Longest that they may take together; then what they showed until there counts."""


@dataclass
class _Shown:
    """What random games showed."""

    rules: str = ""
    longest: str | None = None
    """The longest text that was to be answered."""
    moves: list[str] | None = None
    """What was legal there."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Tokens of each move that was drawn or listed; empty where a move has many replies."""
    listed: bool = False


def check_room_in_games(
    games: Mapping[str, Callable[[], Game]], completer: Completer, max_turns: int, policy: str = ""
) -> None:
    """Raise SpiralError for a game whose random play a policy could not follow; `policy`: which, if not the learner.

    PromptTooLong for a prompt that leaves no room for the longest reply. Moves that a game lists must all fit a reply,
    or a policy could never make them; of free text, which may be shorter, half. `max_turns`: turns of a game, at most.
    A game that grows longer than this shows is voided in play.
    """
    for name, make in games.items():
        shown = _play_randomly(make, completer.prompter, max_turns)
        said = f"game {name}{f', {policy}' if policy else ''}: "
        try:
            if shown.longest is not None:
                completer.prompt(shown.rules, shown.longest, shown.moves)
        except PromptTooLong as error:
            raise PromptTooLong(f"{said}{error}") from error
        most, cut = completer.max_new_tokens, [n for n in shown.lengths.values() if n > completer.max_new_tokens]
        if cut if shown.listed else 2 * len(cut) > len(shown.lengths):
            raise SpiralError(
                f"{said}{len(cut) / len(shown.lengths):.0%} of the moves of random games take more than the {most} "
                f"tokens of a reply; set rollout.max_new_tokens={max(cut)}, which fits them all"
            )


def _play_randomly(make: Callable[[], Game], prompter: Prompter, max_turns: int) -> _Shown:
    """The same games each time. One that misbehaves ends: in play it is voided, with all that is needed to see it."""
    shown = _Shown()
    with suppress(Exception), limited(DEADLINE_S):
        for number in range(NUM_GAMES):
            rng, game = random.Random(number), make()
            shown.rules = game.rules
            game.reset(random.Random(number))
            for _ in range(max_turns):
                player = game.current_player()
                if player is None:
                    break
                observation, moves = game.observe(player), game.legal_moves()
                if shown.longest is None or _num_bytes(observation) > _num_bytes(shown.longest):
                    shown.longest, shown.moves = observation, moves
                shown.listed = moves is not None
                move = random_legal_move(game, rng)
                for said in {*(moves or [move])} - shown.lengths.keys():
                    if (reply := prompter.reply(said)) is not None:
                        shown.lengths[said] = len(reply)
                game.play(move)
    return shown


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
