"""Measures one environment of TextArena through the adapter, phase by phase.

tools.textarena_page runs it in a child process. Limits are CPU seconds, which a busy neighbour does not use up.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from types import FrameType

from spiral_games.textarena import TextArenaGame, catalogue, importing
from spiral_games.textarena.catalogue import Row
from spiral_games.textarena.chance import Chance

from spiral.testing import check_game, information
from tools.textarena_notes import BROKEN, OPEN_INFORMATION, REASONS, SETTLED_PLAYERS
from tools.textarena_refusals import changes_when_refused

SET_UP_S, PLAY_S, PROBE_S, CHECK_S = 20.0, 0.6, 0.4, 5.0
CHECK_TURNS, NUM_STARTS = 25, 40
REPLAYS, MAX_REPLAYED = 5, 60
MAX_GAMES = 20
MAX_CUT = 2000
TOO_SLOW = "a match takes longer to set up than the time limit"


class OutOfTime(BaseException):
    """A phase took longer than it may; not an Exception, which the kit would take for a fault of the game."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the body when the CPU seconds are up."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def measure(env_id: str, answer: Connection) -> None:
    """Send a row that grows better with every phase; the last one that arrives counts."""
    row = Row(
        env_id=env_id, offline=True, reason="", num_players=1, max_players=1, max_turns=catalogue.UNKNOWN_MAX_TURNS,
        zero_sum=False, perfect_information=False, worst_return=-1.0,
        brackets=brackets(env_id), restore=True, listed=False, mean_turns=0.0, steps_s=0.0, adapter_us=0.0,
        conformance="not checked", broken=note(BROKEN, env_id),
    )  # fmt: skip
    try:
        with at_most(SET_UP_S):
            row = player_numbers(row)
            use(row)
            game = TextArenaGame(env_id)
            game.reset(random.Random(0))
            row = replace(row, listed=game.legal_moves() is not None)
    except OutOfTime:
        answer.send(unplayable(row, TOO_SLOW))
        return
    except Exception as error:
        answer.send(unplayable(row, why_not(env_id, error)))
        return
    for phase in (played, restores, speed, conforms):
        answer.send(row)
        use(row)
        row = phase(row)
        if not row.offline:
            break
    answer.send(row)


def measure_quickly(row: Row, answer: Connection) -> None:
    """Send the row with refusals and speeds measured again."""
    for phase in (restores, speed):
        use(row)
        row = phase(row)
    answer.send(row)


def use(row: Row) -> None:
    """Make this row the whole catalogue of this process, which ends with the measurement."""
    catalogue.rows = lambda: {row.env_id: row}  # type: ignore[assignment]


def unplayable(row: Row, reason: str) -> Row:
    return replace(row, offline=False, reason=reason, conformance="")


def why_not(env_id: str, error: Exception) -> str:
    """The end of the sentence `TextArena's X cannot be played: `."""
    for pattern, reason in REASONS.items():
        if re.search(pattern, f"{type(error).__name__}: {error}"):
            return reason
    return f"upstream raises {type(error).__name__}: {' '.join(str(error).split())[:120]}"


def note(notes: Mapping[str, str], env_id: str) -> str:
    """The note of the first pattern that fits the id."""
    return next((text for pattern, text in notes.items() if re.match(pattern, env_id)), "")


def brackets(env_id: str) -> bool:
    wrappers = importing.registry()[env_id].default_wrappers or []
    return any(wrapper.__name__ == "ActionFormattingWrapper" for wrapper in wrappers)


def player_numbers(row: Row) -> Row:
    """How many players an environment takes, by trying; two numbers that upstream takes and ignores are settled."""
    settled = note(SETTLED_PLAYERS, row.env_id)
    if settled:
        least, most = map(int, settled.split("-"))
        return replace(row, num_players=least, max_players=most)
    taken: list[int] = []
    trouble: Exception | None = None
    for players in range(1, 17):
        try:
            with Chance(1):
                env = importing.make(row.env_id, {})
                env.reset(num_players=players, seed=1)
        except Exception as error:
            trouble = trouble or error
            continue
        taken.append(players)
        if type(env.state).__name__ == "SinglePlayerState":
            break
    if not taken:
        raise trouble or ValueError("no number of players is taken")
    return replace(row, num_players=taken[0], max_players=taken[-1])


def played(row: Row) -> Row:
    """Random games: turns, returns, whether they add up to nothing."""
    turns: list[int] = []
    returns: list[list[float]] = []
    game = TextArenaGame(row.env_id)
    begun = time.process_time()
    crash = ""
    cut = False
    for seed in range(MAX_GAMES):
        if time.process_time() - begun > PLAY_S:
            break
        try:
            with at_most(4 * PLAY_S):
                moves, ended = random_game(game, seed)
        except OutOfTime:
            cut = True
            break
        except Exception as error:
            crash = crash or f"upstream raised {type(error).__name__} during random play"
            continue
        turns.append(moves)
        cut = cut or not ended
        returns.append(game.returns())
    if crash and not turns:
        return unplayable(row, "every match ends in an exception upstream")
    limit = getattr(game._env.state, "max_turns", None) or 0
    most = catalogue.UNKNOWN_MAX_TURNS if cut or not turns else max(turns)
    max_turns = min(MAX_CUT, max(50, 50 * -(-4 * most // 50), limit * row.num_players + row.num_players))
    lowest = min((value for result in returns for value in result), default=-1.0)
    # Of more than two players the ties decide, which few random games show: not claimed.
    zero_sum = row.num_players == 2 and bool(returns) and all(abs(sum(result)) < 1e-9 for result in returns)
    return replace(
        row,
        max_turns=max_turns,
        mean_turns=round(sum(turns) / len(turns), 1) if turns else 0.0,
        zero_sum=zero_sum,
        worst_return=min(-1.0, lowest),
        perfect_information=bool(note(OPEN_INFORMATION, row.env_id)),
        broken=row.broken or crash,
    )


def random_game(game: TextArenaGame, seed: int) -> tuple[int, bool]:
    """(turns of a random game, whether the environment ended it)."""
    rng = random.Random(seed)
    game.reset(random.Random(seed))
    turns = 0
    while game.current_player() is not None:
        game.play(game.sample_move(rng))
        turns += 1
    return turns, bool(game._env.state.done)


def restores(row: Row) -> Row:
    """Whether a refused move changes anything but what the adapter puts back itself."""
    try:
        with at_most(10 * PROBE_S):
            use(replace(row, restore=False))
            return replace(row, restore=changes_when_refused(row, PROBE_S))
    except (Exception, OutOfTime):
        return row


def speed(row: Row) -> Row:
    """Steps a second of the bare environment, and what the adapter adds to a step: the best of a few replays each."""
    try:
        with at_most(10 * PLAY_S):
            matches = recorded(row)
            bare = sum(min(play_bare(row, *match) for _ in range(REPLAYS)) for match in matches)
            through = sum(min(play_through(row, *match) for _ in range(REPLAYS)) for match in matches)
    except (Exception, OutOfTime):
        return row
    turns = sum(len(moves) for _, moves in matches)
    added = max(0.0, 1e6 * (through - bare) / turns)
    return replace(row, steps_s=float(f"{turns / bare:.3g}"), adapter_us=float(f"{added:.2g}"))


def recorded(row: Row) -> list[tuple[int, list[str]]]:
    """(seed, moves) of the beginnings of random games, a few tenths of a second's worth."""
    matches: list[tuple[int, list[str]]] = []
    begun = time.process_time()
    for seed in range(MAX_GAMES):
        game, rng = TextArenaGame(row.env_id), random.Random(seed)
        moves: list[str] = []
        game.reset(random.Random(seed))
        while game.current_player() is not None and len(moves) < MAX_REPLAYED:
            moves.append(game.sample_move(rng))
            game.play(moves[-1])
        matches.append((seed, moves))
        if time.process_time() - begun > PLAY_S / 2:
            break
    return [match for match in matches if match[1]]


def play_bare(row: Row, seed: int, moves: list[str]) -> float:
    """Seconds that the moves of a match take without the adapter."""
    with Chance(seed):
        env = importing.make(row.env_id, {}, as_shipped=False)  # so that it takes the moves that were recorded
        env.reset(num_players=row.num_players, seed=random.Random(seed).getrandbits(31))
        env.state.error_allowance = 10**9
        actions = [f"[{move}]" if row.brackets and "[" not in move else move for move in moves]
        start = time.perf_counter()
        for action in actions:
            env.get_observation()
            env.step(action)
        return time.perf_counter() - start


def play_through(row: Row, seed: int, moves: list[str]) -> float:
    """Seconds that the same moves take with it."""
    game = TextArenaGame(row.env_id, style="board")
    game.reset(random.Random(seed))
    start = time.perf_counter()
    for move in moves:
        game.observe(game.current_player() or 0)
        game.play(move)
    return time.perf_counter() - start


def conforms(row: Row) -> Row:
    """The conformance kit with fewer and shorter matches than it plays by default, and fewer deals compared."""
    information.NUM_STARTS = NUM_STARTS if row.num_players > 1 else 1  # a single player can learn no other's secrets
    try:
        with at_most(CHECK_S):
            findings = check_game(lambda: TextArenaGame(row.env_id, max_turns=CHECK_TURNS), num_matches=3)
    except OutOfTime:
        return replace(row, conformance=f"no fault found, but not finished in {CHECK_S:g} CPU s")
    return replace(row, conformance=" | ".join(" ".join(finding.split())[:300] for finding in findings))
