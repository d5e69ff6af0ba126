"""What the TextArena adapter adds to a turn: the same moves through it and through the bare environment, side by side.

The bare loop is what TextArena asks of its callers: observe and step, without wrappers and without a guard on chance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from perf.measure import Figure, spread

TARGET_US = 100.0
GAMES = ("TicTacToe-v0", "KuhnPoker-v0", "PigDice-v0", "Snake-v0", "LiarsDice-v0-small", "SimpleNegotiation-v0")
MATCHES, REPEATS = 200, 7

Match = tuple[int, Sequence[str]]
"""A seed and the moves that were made."""


def figures() -> Iterator[Figure]:
    """One figure a game."""
    for env_id in GAMES:
        matches = [_recorded(env_id, seed) for seed in range(MATCHES)]
        turns = sum(len(moves) for _, moves in matches)
        bare, through = [], []
        for _ in range(REPEATS):
            bare.append(1e6 * sum(_bare(env_id, *match) for match in matches) / turns)
            through.append(1e6 * sum(_through(env_id, *match) for match in matches) / turns)
        added = spread(b - a for a, b in zip(bare, through, strict=True))
        yield Figure(
            f"textarena {env_id}",
            added["median"],
            "us a turn added",
            None if _keeps_copies(env_id) else TARGET_US,
            at_least=False,
            detail={
                "added_us": added,
                "bare_us": spread(bare),
                "through_us": spread(through),
                "ratio": spread(b / a for a, b in zip(bare, through, strict=True)),
                "turns_a_match": turns / MATCHES,
            },
        )


def _keeps_copies(env_id: str) -> bool:
    """Whether a refused move would leave traces, so that the adapter copies the environment before every move."""
    from spiral_games.textarena import catalogue

    return catalogue.rows()[env_id].restore


def _recorded(env_id: str, seed: int) -> Match:
    from spiral_games.textarena import TextArenaGame

    game, rng, moves = TextArenaGame(env_id), random.Random(seed), []
    game.reset(random.Random(seed))
    while game.current_player() is not None:
        moves.append(game.sample_move(rng))
        game.play(moves[-1])
    return seed, moves


def _through(env_id: str, seed: int, moves: Sequence[str]) -> float:
    """CPU seconds of the moves of one match through the adapter."""
    from spiral_games.textarena import TextArenaGame

    game = TextArenaGame(env_id)
    game.reset(random.Random(seed))
    start = time.process_time()
    for move in moves:
        player = game.current_player()
        assert player is not None
        game.observe(player)
        game.play(move)
    return time.process_time() - start


def _bare(env_id: str, seed: int, moves: Sequence[str]) -> float:
    """CPU seconds of the same moves given to the environment itself."""
    from spiral_games.textarena import catalogue, importing
    from spiral_games.textarena.chance import Chance

    wrap = catalogue.rows()[env_id].brackets
    actions = [f"[{move}]" if wrap and "[" not in move else move for move in moves]
    with Chance(random.Random(seed).getrandbits(31)):
        env = importing.make(env_id, {}, as_shipped=False)
        env.reset(num_players=catalogue.rows()[env_id].num_players, seed=random.Random(seed).getrandbits(31))
        env.state.error_allowance = 10**9
        start = time.process_time()
        for action in actions:
            env.get_observation()
            env.step(action)
        return time.process_time() - start
