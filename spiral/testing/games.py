"""The promises of a game, one small check each; what a player may know is checked in `spiral.testing.information`.

"The match is unchanged" is judged by playing on beside an untouched match, not by comparing pickles: a game may keep
a cache, and what no later look or move can tell is no change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from spiral.api.games import IllegalMove, is_zero_sum, worst_return
from spiral.testing import information as hidden
from spiral.testing.playing import MAX_COMPARED, GameFactory, Start, Table, difference, play_out, same_future, seeded
from spiral.testing.violations import Broken, doing, findings, global_chance, is_finite, short

METHODS = ("reset", "current_player", "observe", "legal_moves", "play", "returns")
NONSENSE = ("", " ", "\x00", "no such move", "None", "-1", "99", "1.5", "²", "[", "\n", "x" * 10_000)
"""Moves that tempt a parser: an index from the end, a digit that int() refuses, an open bracket, a very long line."""
MAX_LISTED = 40
"""Legal moves of one position that are tried, and moves of other positions."""


class Played(NamedTuple):
    """A finished match."""

    seed: int
    moves: tuple[str, ...]
    returns: tuple[float, ...]


def check_game(factory: GameFactory, *, num_matches: int = 50, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.games.Game` that `factory()` breaks, a sentence each; empty if it keeps them.

    Plays `num_matches` matches of random legal moves, and probes some positions of each. Deterministic in `seed`.
    Sentences come in stages - form, play, seeds, copies, behaviour - and stop after the first stage that has any,
    because a later stage relies on what the earlier ones promise.
    """
    played: list[Played] = []
    return findings(
        [partial(_members, factory)],
        [lambda: played.extend(_matches(factory, num_matches, seed))],
        [partial(_amounts, factory, played)],
        [partial(_same_seed, factory, played)],
        [partial(_apart, factory, played)],
        [partial(_reset_again, factory, played)],
        [partial(_deep_copies, factory, played), partial(_pickles, factory, played)],
        [
            partial(_looking, factory, played, "observe"),
            partial(_looking, factory, played, "legal_moves"),
            partial(_listed, factory, played),
            partial(_nonsense, factory, played),
            partial(hidden.check_deals, factory, seed),
            partial(hidden.check_declared, factory, played),
            lambda: hidden.check_resample(factory, list(places(played, 4))),
            partial(hidden.check_leaks, factory, played, seed),
        ],
    )


def places(played: Sequence[Played], most: int = 5, num_matches: int = 20) -> Iterator[tuple[Start, tuple[str, ...]]]:
    """(start, moves) of some positions of some matches: the first one, the end, and a few between."""
    for match in played[:num_matches]:
        rng = random.Random(match.seed)
        steps = range(len(match.moves) + 1)
        chosen = {0, len(match.moves), *rng.sample(steps, min(most - 2, len(steps)))}
        for step in sorted(chosen):
            yield seeded(match.seed), match.moves[:step]


def _members(factory: GameFactory) -> Iterator[str]:
    """The members and their types, before any match."""
    with doing("making the game"):
        game: Any = factory()
    for name in METHODS:
        if not callable(getattr(game, name, None)):
            yield f"the game has no method {name}; see spiral.api.games.Game"
    num_players, rules = getattr(game, "num_players", None), getattr(game, "rules", None)
    if not isinstance(num_players, int) or isinstance(num_players, bool) or num_players < 1:
        yield f"num_players is {short(num_players)}; make it a whole number, 1 or more, before reset"
    if not isinstance(rules, str):
        yield f"rules is {short(rules)}; make it a str, empty if there is nothing to say"
    for flag in ("zero_sum", "perfect_information"):
        if not isinstance(getattr(game, flag, False), bool):
            yield f"{flag} is {short(getattr(game, flag))}; make it True or False"
    if not is_finite(getattr(game, "worst_return", -1.0)):
        yield f"worst_return is {short(game.worst_return)}; make it a finite number"


def _matches(factory: GameFactory, num_matches: int, seed: int) -> Iterator[Played]:
    for number in range(seed, seed + num_matches):
        table = Table(factory, seeded(number))
        end = play_out(table, random.Random(number))
        again = table.look()
        if end != again:
            raise Broken(f"asking twice when the match is over gives two answers {table.where()}")
        yield Played(number, tuple(table.moves), end.returns or ())


def _amounts(factory: GameFactory, played: Sequence[Played]) -> Iterator[str]:
    """What a finished match pays."""
    game = factory()
    worst = min(played, key=lambda match: min(match.returns))
    if min(worst.returns) < worst_return(game) - 1e-9:
        default = "" if hasattr(game, "worst_return") else ", the default"
        yield (
            f"returns() gave {list(worst.returns)} with seed {worst.seed}, below worst_return ({worst_return(game):g}"
            f"{default}); declare worst_return, the lowest return possible, which a player who forfeits receives"
        )
    if is_zero_sum(game):
        for match in played:
            if abs(sum(match.returns)) > 1e-9:
                yield (
                    f"zero_sum is declared and returns() gave {list(match.returns)} with seed {match.seed}, which add "
                    f"up to {sum(match.returns):g}; mend the returns or drop zero_sum"
                )
                return


def _apart(factory: GameFactory, played: Sequence[Played]) -> None:
    """A match stands still while another one is played."""
    for start, moves in places(played, num_matches=5):
        before = Table(factory, start, moves).look()
        table = Table(factory, start, moves)
        play_out(Table(factory, seeded(played[-1].seed)), random.Random(0))
        after = table.look()
        if before != after:
            raise Broken(
                f"two matches at once disturb each other: {difference(before, after)} after another match was played "
                f"{table.where()}; share nothing between instances"
            )


def _same_seed(factory: GameFactory, played: Sequence[Played]) -> None:
    """Two instances side by side, the global generators seeded differently for each."""

    def compare(match: Played, seeds: tuple[int, int]) -> str | None:
        with global_chance() as chance:

            def reseed(table: int, step: int) -> None:
                chance(seeds[table] + 7919 * match.seed + step)

            reseed(0, MAX_COMPARED)
            one = Table(factory, seeded(match.seed))
            reseed(1, MAX_COMPARED)
            two = Table(factory, seeded(match.seed))
            return same_future(one, two, random.Random(match.seed), reseed)

    for match in played:
        differ = compare(match, (1, 1_000_003))
        if differ is None:
            continue
        if compare(match, (1, 1)) is None:
            raise Broken(
                f"chance comes from a global random generator: with other global seeds the same match goes another "
                f"way, {differ}; draw everything from the rng given to reset"
            )
        raise Broken(
            f"the same seed gave two different matches: {differ}; draw all chance from the rng given to reset, and "
            "share nothing between instances"
        )


def _reset_again(factory: GameFactory, played: Sequence[Played]) -> None:
    """A used object that is reset is as good as a new one."""
    for first, second in zip(played, [*played[1:], *played[:1]], strict=True):
        for moves in (first.moves, first.moves[: len(first.moves) // 2]):
            used = Table(factory, seeded(first.seed), moves)
            used.begin(seeded(second.seed))
            differ = same_future(used, Table(factory, seeded(second.seed)), random.Random(second.seed))
            if differ:
                raise Broken(
                    f"reset on a used game is not a fresh match: {differ} (used one first); set everything in reset"
                )


def _deep_copies(factory: GameFactory, played: Sequence[Played]) -> None:
    for start, moves in places(played):
        table = Table(factory, start, moves)
        copied = table.fork()
        play_out(table.fork(), random.Random(1))  # must leave `table` and the other copy alone
        for one in (table, copied):
            differ = same_future(one, Table(factory, start, moves), random.Random(2))
            if differ:
                raise Broken(f"a deep copy is not a match of its own: {differ} (copy or copied game first)")


def _pickles(factory: GameFactory, played: Sequence[Played]) -> None:
    for start, moves in places(played):
        table = Table(factory, start, moves)
        differ = same_future(table.pickled(), table, random.Random(3))
        if differ:
            raise Broken(f"a match does not go on alike after pickling: {differ} (unpickled game first)")


def _looking(factory: GameFactory, played: Sequence[Played], name: str) -> None:
    """Asking often changes nothing."""
    for start, moves in places(played):
        table = Table(factory, start, moves)
        for _ in range(5):
            if name == "legal_moves":
                table.game.legal_moves()
            else:
                for player in range(table.game.num_players):
                    table.game.observe(player)
        differ = same_future(table, Table(factory, start, moves), random.Random(4))
        if differ:
            raise Broken(f"{name}() changes the match: after asking more often, {differ} (asked often first)")


def _listed(factory: GameFactory, played: Sequence[Played]) -> None:
    """Every listed move is taken; of a free-text game, several sampled ones."""
    for start, moves in places(played):
        table = Table(factory, start, moves)
        view, rng = table.look(), random.Random(5)
        if view.player is None:
            continue
        tried = [table.random_move(view, rng) for _ in range(10)] if view.moves is None else _some(view.moves, rng)
        for move in tried:
            after = table.fork()
            after.play(move)
            after.look()


def _nonsense(factory: GameFactory, played: Sequence[Played]) -> None:
    """Moves that are not legal raise IllegalMove and leave no trace; after the end no move is legal."""
    elsewhere = sorted({move for match in played for move in match.moves})
    for start, moves in places(played):
        table = Table(factory, start, moves)
        view, rng = table.look(), random.Random(6)
        for move in [*NONSENSE, *_some(elsewhere, rng)]:
            if view.moves and move in view.moves:
                continue
            before = table.fork() if view.moves is None else table
            if not _refused(table, move):
                _allowed(table, move, over=view.player is None, listed=view.moves is not None)
                table = before
        differ = same_future(table, Table(factory, start, moves), random.Random(7))
        if differ:
            raise Broken(f"a refused move changes the match: {differ} (refused first); check before you assign")


def _refused(table: Table, move: str) -> bool:
    try:
        table.game.play(move)
    except IllegalMove:
        return True
    except Exception as error:
        raise Broken(
            f"play({short(move)}) raised {type(error).__name__}: {error}; a move that cannot be made raises "
            f"IllegalMove(reason) and nothing else {table.where()}"
        ) from error
    return False


def _allowed(table: Table, move: str, over: bool, listed: bool) -> None:
    """Raise Broken unless a free-text game may take this move."""
    if over:
        raise Broken(f"play({short(move)}) was accepted after the match was over; raise IllegalMove {table.where()}")
    if listed:
        raise Broken(
            f"play({short(move)}) was accepted and legal_moves() does not list it; list it or raise IllegalMove "
            f"{table.where()}"
        )


def _some(moves: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(list(moves), min(MAX_LISTED, len(moves)))
