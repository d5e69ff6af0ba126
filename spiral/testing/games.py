"""Checks a game against the contract of `spiral.api.games.Game`; what its players may know is in `information`.

"The match is unchanged" means that it plays on like an untouched match: a game may keep a cache, which a comparison of
attributes or pickles would report, and no player could notice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from spiral.api.games import Enumerable, IllegalMove, is_zero_sum, judges_cut_matches, worst_return
from spiral.api.skills import skills_problem
from spiral.testing import information
from spiral.testing.messages import check_messages
from spiral.testing.perfect_information import check_declared
from spiral.testing.playing import (
    MAX_COMPARED,
    FinishedMatch,
    GameFactory,
    PlayedMatch,
    Position,
    describe_difference,
    first_difference,
    play_out,
    seeded,
)
from spiral.testing.violations import Violation, doing, global_generators, is_finite, run_checks, short

METHODS = ("reset", "current_player", "observe", "legal_moves", "play", "returns")
NONSENSE = ("", " ", "\x00", "no such move", "None", "-1", "99", "1.5", "²", "[", "\n", "x" * 10_000)
"""Moves that tempt a parser: an index from the end, a digit that int() refuses, an open bracket, a very long line."""
MAX_LISTED = 40
"""Legal moves of one position that are tried, and moves of other positions."""


def check_game(factory: GameFactory, *, num_matches: int = 50, seed: int = 0) -> list[str]:
    """The violations of `spiral.api.games.Game` by `factory()`, a sentence each; [] if there are none.

    - Members and answers have the promised types; random legal play ends, with returns within what is declared.
    - All chance comes from the `rng` of `reset`; instances share nothing; a reset game is as good as a new one.
    - A match survives deepcopy and pickle.
    - `observe`, `messages`, `legal_moves`, `judge` and `joint_state` change nothing; `play` takes every legal move, and
      refuses every other one with IllegalMove and without a trace; a game with `deals` takes each move in one spelling
      alone.
    - No observation, and no message, leaks what its player may not know; `deals`, `resample` and the flags agree with
      play. A game that does not say whether anything is hidden, and hides nothing, gets a `Notice`, a warning.

    Plays `num_matches` matches of random legal moves, and probes some positions of each. The checks come in stages and
    end after the first stage with violations, since a later stage relies on the earlier ones. Deterministic in `seed`.

    Example: `assert check_game(HighCard) == []`, or for other arguments `check_game(lambda: HighCard(cards=5))`.
    """
    matches: list[FinishedMatch] = []
    return run_checks(
        [partial(_check_members, factory)],
        [lambda: matches.extend(_finished_matches(factory, num_matches, seed))],
        [partial(_check_returns, factory, matches)],
        [partial(_check_same_seed, factory, matches)],
        [partial(_check_instances, factory, matches)],
        [partial(_check_reset_again, factory, matches)],
        [partial(_check_deep_copies, factory, matches), partial(_check_pickles, factory, matches)],
        [
            partial(_check_queries, factory, matches, "observe"),
            partial(_check_queries, factory, matches, "legal_moves"),
            partial(_check_judge, factory, matches),
            lambda: check_messages(factory, list(_positions(matches))),
            lambda: information.check_joint_state(factory, list(_positions(matches))),
            partial(_check_legal_moves, factory, matches),
            partial(_check_illegal_moves, factory, matches),
            partial(information.check_deals, factory, seed),
            partial(check_declared, factory, matches),
            lambda: information.check_resample(factory, list(_positions(matches, 4))),
            partial(information.check_leaks, factory, matches, seed),
        ],
    )


def _positions(matches: Sequence[FinishedMatch], most: int = 5, num_matches: int = 20) -> Iterator[Position]:
    """Up to `most` positions of each of the first matches: the first one, the end, and a few between."""
    for match in matches[:num_matches]:
        rng = random.Random(match.seed)
        steps = range(len(match.moves) + 1)
        chosen = {0, len(match.moves), *rng.sample(steps, min(most - 2, len(steps)))}
        for step in sorted(chosen):
            yield seeded(match.seed), match.moves[:step]


def _check_members(factory: GameFactory) -> Iterator[str]:
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
        yield f"rules is {short(rules)}; make it a str, empty if the game has no rules to state"
    # Read as they are: the accessors of spiral.api convert the values, and so hide a wrong type.
    for flag in ("zero_sum", "perfect_information"):
        if not isinstance(getattr(game, flag, False), bool):
            yield f"{flag} is {short(getattr(game, flag))}; make it True or False"
    if not is_finite(getattr(game, "worst_return", -1.0)):
        yield f"worst_return is {short(game.worst_return)}; make it a finite number"
    if (problem := skills_problem(getattr(game, "skills", {}))) is not None:
        yield f"its skills {problem}"


def _finished_matches(factory: GameFactory, num_matches: int, seed: int) -> Iterator[FinishedMatch]:
    for number in range(seed, seed + num_matches):
        match = PlayedMatch(factory, seeded(number))
        end = play_out(match, random.Random(number))
        if end != match.view():
            raise Violation(
                f"asking twice when the match is over gives two answers; let no method but reset and play change "
                f"the game {match.where()}"
            )
        yield FinishedMatch(number, tuple(match.moves), end.returns or ())


def _check_returns(factory: GameFactory, matches: Sequence[FinishedMatch]) -> Iterator[str]:
    """The returns keep `worst_return` and `zero_sum`."""
    game = factory()
    worst = min(matches, key=lambda match: min(match.returns))
    if min(worst.returns) < worst_return(game) - 1e-9:
        default = "" if hasattr(game, "worst_return") else ", the default"
        yield (
            f"returns() gave {list(worst.returns)} with seed {worst.seed}, below worst_return ({worst_return(game):g}"
            f"{default}); declare worst_return, the lowest return possible, which a player who forfeits receives"
        )
    if is_zero_sum(game):
        for match in matches:
            if abs(sum(match.returns)) > 1e-9:
                yield (
                    f"zero_sum is declared and returns() gave {list(match.returns)} with seed {match.seed}, which add "
                    f"up to {sum(match.returns):g}; correct the returns or drop zero_sum"
                )
                return


def _check_instances(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """A match stays as it is while another one is played on a second instance."""
    for start, moves in _positions(matches, num_matches=5):
        before = PlayedMatch(factory, start, moves).view()
        match = PlayedMatch(factory, start, moves)
        play_out(PlayedMatch(factory, seeded(matches[-1].seed)), random.Random(0))
        after = match.view()
        if before != after:
            raise Violation(
                f"two matches at once disturb each other: {describe_difference(before, after)} after another match was "
                f"played {match.where()}; share nothing between instances"
            )


def _check_same_seed(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """Two instances with one seed play alike, although the global generators are seeded differently for each."""

    def compare(match: FinishedMatch, seeds: tuple[int, int]) -> str | None:
        with global_generators() as seed_globals:

            def reseed(instance: int, step: int) -> None:
                seed_globals(seeds[instance] + 7919 * match.seed + step)

            reseed(0, MAX_COMPARED)
            one = PlayedMatch(factory, seeded(match.seed))
            reseed(1, MAX_COMPARED)
            two = PlayedMatch(factory, seeded(match.seed))
            return first_difference(one, two, random.Random(match.seed), reseed)

    for match in matches:
        difference = compare(match, (1, 1_000_003))
        if difference is None:
            continue
        # If equal global seeds make the two agree, the global generators are the cause; otherwise it is another source.
        if compare(match, (1, 1)) is None:
            raise Violation(
                f"chance comes from a global random generator: with other global seeds the same match goes another "
                f"way, {difference}; draw everything from the rng given to reset"
            )
        raise Violation(
            f"the same seed gave two different matches: {difference}; draw all chance from the rng given to reset, and "
            "share nothing between instances"
        )


def _check_reset_again(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """A used game that is reset plays like a new one, after a finished match and after half a match."""
    for first, second in zip(matches, [*matches[1:], *matches[:1]], strict=True):
        for moves in (first.moves, first.moves[: len(first.moves) // 2]):
            used = PlayedMatch(factory, seeded(first.seed), moves)
            used.begin(seeded(second.seed))
            new = PlayedMatch(factory, seeded(second.seed))
            difference = first_difference(used, new, random.Random(second.seed))
            if difference:
                raise Violation(
                    f"reset on a used game is not a fresh match: {difference} (the used game first); set everything in "
                    "reset"
                )


def _check_deep_copies(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    for start, moves in _positions(matches):
        match = PlayedMatch(factory, start, moves)
        copied = match.fork()
        play_out(match.fork(), random.Random(1))  # a second copy, whose moves must reach neither `match` nor `copied`
        for one in (match, copied):
            difference = first_difference(one, PlayedMatch(factory, start, moves), random.Random(2))
            if difference:
                raise Violation(
                    f"a deep copy is not a match of its own: {difference} (the copy or the copied game first); copy "
                    "everything that play changes"
                )


def _check_pickles(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    for start, moves in _positions(matches):
        match = PlayedMatch(factory, start, moves)
        difference = first_difference(match.pickled(), match, random.Random(3))
        if difference:
            raise Violation(
                f"a match does not go on alike after pickling: {difference} (the unpickled game first); pickle the "
                "whole position"
            )


def _check_queries(factory: GameFactory, matches: Sequence[FinishedMatch], method: str) -> None:
    """Calling `observe` or `legal_moves` more often changes nothing."""
    for start, moves in _positions(matches):
        match = PlayedMatch(factory, start, moves)
        for _ in range(5):
            if method == "legal_moves":
                match.game.legal_moves()
            else:
                for player in range(match.game.num_players):
                    match.game.observe(player)
        difference = first_difference(match, PlayedMatch(factory, start, moves), random.Random(4))
        if difference:
            raise Violation(
                f"{method}() changes the match: after more calls, {difference} (the game called more often first); "
                "assign in reset and play alone"
            )


def _check_judge(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """Of a game with `judge`: it is as sound as `returns` wherever a match may be cut, and changes nothing."""
    for start, moves in _positions(matches) if judges_cut_matches(factory()) else ():
        match = PlayedMatch(factory, start, moves)
        game: Any = match.game
        if game.current_player() is None:
            continue
        with doing(f"judge() {match.where()}"):
            judged: Any = game.judge()
        fits = isinstance(judged, list | tuple) and len(judged) == game.num_players and all(map(is_finite, judged))
        if not fits or min(judged) < worst_return(game) - 1e-9 or (is_zero_sum(game) and abs(sum(judged)) > 1e-9):
            raise Violation(
                f"judge() is {short(judged)}; return what returns() promises: a finite number for each of the "
                f"{game.num_players} players, none below worst_return, that add up to 0 where zero_sum is declared "
                f"{match.where()}"
            )
        difference = first_difference(match, PlayedMatch(factory, start, moves), random.Random(11))
        if difference:
            raise Violation(f"judge() changes the match: {difference} (the game that judged first); let it only read")


def _check_legal_moves(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """`play` takes every listed move, or of a free-text game several sampled ones."""
    for start, moves in _positions(matches):
        match = PlayedMatch(factory, start, moves)
        view, rng = match.view(), random.Random(5)
        if view.player is None:
            continue
        tried = [match.random_move(view, rng) for _ in range(10)] if view.moves is None else _some(view.moves, rng)
        for move in tried:
            after = match.fork()
            after.play(move)
            after.view()


def _check_illegal_moves(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """Moves that are not legal raise IllegalMove and leave no trace; after the end no move is legal."""
    moves_of_all = sorted({move for match in matches for move in match.moves})
    for start, moves in _positions(matches):
        match = PlayedMatch(factory, start, moves)
        view, rng = match.view(), random.Random(6)
        # Exact figures, which need deals, count one spelling of a move; other games may be lenient with people.
        listed = (view.moves or ()) if isinstance(match.game, Enumerable) else ()
        respelt = [text for move in listed for text in _respellings(move)]
        for move in [*NONSENSE, *_some(moves_of_all, rng), *respelt]:
            if view.moves and move in view.moves:
                continue
            # Only free text may take such a move. The match then goes on from the copy made before it, so that all
            # moves are refused at the same position.
            before = match.fork() if view.moves is None else match
            if not _is_refused(match, move):
                _check_allowed(match, move, over=view.player is None, listed=view.moves is not None)
                match = before
        difference = first_difference(match, PlayedMatch(factory, start, moves), random.Random(7))
        if difference:
            raise Violation(
                f"a refused move changes the match: {difference} (the game that refused first); check before you assign"
            )


def _respellings(move: str) -> tuple[str, ...]:
    return f" {move}", f"{move} ", f"{move}\n", move.upper(), move.title(), f"[{move}]"


def _is_refused(match: PlayedMatch, move: str) -> bool:
    try:
        match.game.play(move)
    except IllegalMove:
        return True
    except Exception as error:
        raise Violation(
            f"play({short(move)}) raised {type(error).__name__}: {error}; a move that cannot be made raises "
            f"IllegalMove(reason) and nothing else {match.where()}"
        ) from error
    return False


def _check_allowed(match: PlayedMatch, move: str, over: bool, listed: bool) -> None:
    """Raise Violation unless moves are free text and the match is on."""
    if over:
        raise Violation(f"play({short(move)}) was accepted after the match was over; raise IllegalMove {match.where()}")
    if listed:
        raise Violation(
            f"play({short(move)}) was accepted and legal_moves() does not list it; list it or raise IllegalMove "
            f"{match.where()}"
        )


def _some(moves: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(list(moves), min(MAX_LISTED, len(moves)))
