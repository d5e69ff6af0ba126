"""Checks that observations tell what they must: equal texts of the player to move, equal legal moves; and where a game
declares perfect information, equal futures."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from spiral.api.games import Enumerable, has_perfect_information
from spiral.testing.playing import FinishedMatch, GameFactory, PlayedMatch, Position, View, seeded
from spiral.testing.violations import Violation, short

NUM_REORDERED = 12
"""Matches that are played again with two moves exchanged, and how often each."""
MAX_PAIRS = 200
"""Pairs of positions with equal observations whose futures are compared."""


def check_declared(factory: GameFactory, matches: Sequence[FinishedMatch]) -> None:
    """Equal observations of the player to move have equal legal moves; with perfect information, equal futures.

    For games that declare perfect information or list their deals; the positions are those of `matches`, and with
    perfect information also of matches in which two of their moves change places: most texts are met once only, and
    what the past forbids (a position that may not come back) shows in two ways to one of them. Raises Violation.
    """
    game = factory()
    perfect, enumerable = has_perfect_information(game), isinstance(game, Enumerable)
    if not perfect and not enumerable:
        return
    known: dict[str, tuple[View, Position]] = {}
    """Observation -> the first position that had it."""
    num_compared, chance = 0, not enumerable and perfect and _chance_comes(factory, matches)
    for finished in itertools.chain(matches, _reordered(factory, matches) if perfect else ()):
        match = PlayedMatch(factory, seeded(finished.seed))
        for step in range(len(finished.moves)):
            view, position = match.view(), (match.start, finished.moves[:step])
            assert view.player is not None
            text = view.observations[view.player]
            # With perfect information the text alone must say who is to move, else it tells less than everything.
            key = text if perfect else f"{view.player} {text}"
            first, first_position = known.setdefault(key, (view, position))
            if perfect and first.player != view.player:
                raise Violation(
                    f"perfect_information is declared and the observation {short(text)} does not tell who is to move: "
                    f"player {first.player} in one match, player {view.player} in another; put the player into it"
                )
            _check_same_moves(first, view, text, match)
            # Where chance comes during play, one observation may rightly have two futures.
            if perfect and not chance and position != first_position and num_compared < MAX_PAIRS:
                num_compared += 1
                _check_same_future(factory, first_position, position, text, num_compared)
            match.play(finished.moves[step])


def _chance_comes(factory: GameFactory, matches: Sequence[FinishedMatch]) -> bool:
    """Whether the same moves led elsewhere from another seed in one of the first matches."""
    for finished in matches[:5]:
        one, two = (PlayedMatch(factory, seeded(finished.seed + k)) for k in (0, 1))
        for move in finished.moves:
            if one.view() != two.view():
                return True
            one.play(move)
            two.play(move)
        if one.view() != two.view():
            return True
    return False


def _reordered(factory: GameFactory, matches: Sequence[FinishedMatch]) -> Iterator[FinishedMatch]:
    """Each match with two moves exchanged, several times, as far as the moves are legal then."""
    rng = random.Random(12)
    for finished in matches[:NUM_REORDERED]:
        for _ in range(NUM_REORDERED if len(finished.moves) > 2 else 0):
            moves, first = list(finished.moves), rng.randrange(min(40, len(finished.moves) - 2))
            second = rng.randrange(first + 2, min(len(moves), first + 8))
            moves[first], moves[second] = moves[second], moves[first]
            moves = moves[: second + 8]  # to bound the cost: what the exchange changes mostly shows soon
            match = PlayedMatch(factory, seeded(finished.seed))
            match.try_moves(moves)
            yield FinishedMatch(finished.seed, tuple(match.moves), ())


def _check_same_moves(first: View, view: View, text: str, match: PlayedMatch) -> None:
    if (first.moves is None) != (view.moves is None) or set(first.moves or ()) != set(view.moves or ()):
        raise Violation(
            f"the observation {short(text)} hides what is legal: {short(first.moves)} in one match and "
            f"{short(view.moves)} in another; let the observation tell them apart {match.where()}"
        )


def _check_same_future(
    factory: GameFactory, first_position: Position, position: Position, text: str, seed: int
) -> None:
    """Plays the same random moves on from both. Compares what the player to move observes, not all observations as
    `first_difference` does: the other players may have observed different histories."""
    one, two = PlayedMatch(factory, *first_position), PlayedMatch(factory, *position)
    rng = random.Random(seed)
    for _ in range(1_000):
        first, second = one.view(), two.view()
        texts = [view.player is not None and view.observations[view.player] for view in (first, second)]
        if first.player != second.player or texts[0] != texts[1] or first.returns != second.returns:
            raise Violation(
                f"perfect_information is declared and after the observation {short(text)} the same moves led to two "
                f"different matches {one.where()} and {two.where()}; hide nothing, or do not declare it"
            )
        if first.player is None:
            return
        move = one.random_move(first, rng)
        one.play(move)
        two.play(move)
