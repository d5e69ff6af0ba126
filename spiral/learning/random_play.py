"""Decisions of random legal play, as supervised examples: labels are uniform over the legal moves."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

from spiral.api.errors import PromptTooLong, RunError, SpiralError
from spiral.api.games import Game, random_legal_move, try_move
from spiral.api.records import Turn
from spiral.policies.completer import Completer
from spiral.selfplay.time_limit import limited

GAME_DEADLINE_S = 60.0
"""Longest that a game may take over one move."""
MAX_FAILURES = 100
"""Matches that may misbehave one after another."""


@dataclass(frozen=True)
class RandomDecision:
    """A decision met in random legal play, and the move that was drawn."""

    match: int
    """Counted from 0."""
    name: str
    """Of the game."""
    prompt: tuple[int, ...]
    move: str
    game: Game
    """As it was before the move."""

    def admits(self, move: str) -> bool:
        """Whether a move is legal here; a game that misbehaves admits none."""
        try:
            with limited(GAME_DEADLINE_S):
                return try_move(deepcopy(self.game), move)
        except Exception:
            return False


def random_decisions(
    games: Mapping[str, Callable[[], Game]],
    weights: Mapping[str, float],
    completer: Completer,
    rng: random.Random,
    max_turns: int,
) -> Iterator[RandomDecision]:
    """Decisions without end; every game as often as its weight says, each match `max_turns` turns at most.

    A match that misbehaves ends there, and its earlier decisions stay. Raises RunError when all do.
    """
    failures = 0
    for match in itertools.count():
        name = rng.choices(list(games), [weights[g] for g in games])[0]
        turns = _match(games[name], completer, random.Random(rng.getrandbits(63)), rng, max_turns)
        for met in turns:
            if not isinstance(met, str):
                failures = 0
                yield RandomDecision(match, name, *met)
            elif (failures := failures + 1) > MAX_FAILURES:
                raise RunError(
                    f"{failures} matches of the warm start misbehaved one after another, the last one of {name}: {met}"
                    f"; run: spiral check {name.partition('(')[0]}"
                )


def _match(
    make: Callable[[], Game], completer: Completer, chance: random.Random, rng: random.Random, max_turns: int
) -> Iterator[tuple[tuple[int, ...], str, Game] | str]:
    """The (prompt, move, game) of each decision of one match; at its end the reason, if the game misbehaved or its text
    became too long."""
    prompter, turns = completer.prompter, dict[int, list[Turn]]()
    try:
        with limited(GAME_DEADLINE_S):
            game = make()
            game.reset(chance)
            player = game.current_player()
        for _ in range(max_turns):
            if player is None:
                return
            with limited(GAME_DEADLINE_S):
                move, observation, copy = random_legal_move(game, rng), game.observe(player), deepcopy(game)
            # Outside the time limit: the caller may train on the decision before it asks for the next.
            moves = copy.legal_moves() if prompter.lists_moves else None
            prompt, left_out = completer.fitting(game.rules, observation, moves, turns.setdefault(player, []))
            yield prompt, move, copy
            if prompter.has_history:
                reply, named = prompter.reply(move) or (), None if moves is None else tuple(moves)
                turn = Turn(observation, prompt, reply, (), move, True, "stop", 0, legal_moves=named, left_out=left_out)
                turns[player].append(turn)
            with limited(GAME_DEADLINE_S):
                game.play(move)
                player = game.current_player()
    except PromptTooLong as error:
        yield str(error)
    except SpiralError:
        raise
    except Exception as error:
        yield f"{type(error).__name__}: {error}"
