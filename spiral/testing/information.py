"""What a player may know: hidden information must not leak, and declared openness must hold; also the listed deals.

What is hidden can be tested in two ways. A game with the optional method `resample(player, rng)`, which redraws all
that `player` does not know, is tested exactly: the player must not notice. Without it, many deals are compared: if
whatever varies for one player is always given away by what another one sees, nothing is hidden from that one.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from spiral.api.games import Enumerable, has_perfect_information
from spiral.testing.playing import GameFactory, Start, Table, View, dealt, play_out, same_future, seeded
from spiral.testing.violations import Broken, doing, global_chance, is_finite, short

NUM_STARTS = 200
"""Random deals that are compared where the deals cannot be listed."""
MAX_DEALS = 2_000
"""More deals than this are sampled, not listed."""
NUM_RESETS = 2_000
"""Resets whose starts are counted against the listed probabilities."""
LUCK = 1e-6
"""A pattern at least this likely without a leak proves nothing."""
PAIRS = 200
"""Pairs of positions with one observation whose futures are compared."""


class Match(Protocol):
    """A finished match of random legal moves."""

    @property
    def seed(self) -> int: ...
    @property
    def moves(self) -> tuple[str, ...]: ...


Place = tuple[Start, tuple[str, ...]]


def first_deals(factory: GameFactory) -> list[tuple[float, Any]]:
    """The deals of an `Enumerable` game, at most MAX_DEALS + 1 of them; [] for other games."""
    game = factory()
    if not isinstance(game, Enumerable):
        return []
    with doing("deals()"):
        return list(itertools.islice(game.deals(), MAX_DEALS + 1))


def check_deals(factory: GameFactory, seed: int) -> None:
    """Probabilities, `reset_to`, and that `reset` deals with the listed probabilities."""
    if not isinstance(factory(), Enumerable):
        return
    deals = first_deals(factory)
    total = 0.0
    for entry in deals:
        if not isinstance(entry, tuple) or len(entry) != 2 or not is_finite(entry[0]) or entry[0] <= 0:
            raise Broken(f"deals() gave {short(entry)}; give pairs of a probability above 0 and a deal")
        total += entry[0]
    if len(deals) <= MAX_DEALS and abs(total - 1) > 1e-9:
        raise Broken(f"the probabilities of deals() add up to {total:.6g}; make that 1")
    rng = random.Random(seed)
    for _, deal in rng.sample(deals, min(40, len(deals))):
        with global_chance() as chance:
            used = Table(factory, seeded(seed))
            play_out(used, random.Random(seed))
            used.begin(dealt(deal))
            differ = same_future(
                used, Table(factory, dealt(deal)), rng, lambda table, step: chance(1_000_003 * table + step)
            )
        if differ:
            raise Broken(
                f"after reset_to(deal) a match is not a function of the moves alone: {differ}; set everything in "
                "reset_to, and draw nothing after it"
            )
    if len(deals) <= MAX_DEALS:
        _check_frequencies(factory, deals)


def _check_frequencies(factory: GameFactory, deals: Sequence[tuple[float, Any]]) -> None:
    expected: dict[View, float] = defaultdict(float)
    for probability, deal in deals:
        expected[Table(factory, dealt(deal)).look()] += probability
    table = Table(factory, seeded(0))
    counts: Counter[View] = Counter()
    for number in range(NUM_RESETS):
        table.begin(seeded(number))
        start = table.look()
        if start not in expected:
            raise Broken(f"reset gave a start that no deal of deals() gives: {short(start.seen)} {table.where()}")
        counts[start] += 1
    for start, probability in expected.items():
        # Six standard deviations, and a few for starts that are rare: fails for a wrong game, never by chance.
        allowed = 6 * math.sqrt(NUM_RESETS * probability * max(0.0, 1 - probability)) + 6
        if abs(counts[start] - NUM_RESETS * probability) > allowed:
            raise Broken(
                f"deals() gives the start {short(start.seen)} the probability {probability:.4g} and reset gave it "
                f"{counts[start]} times of {NUM_RESETS}; make the two agree"
            )


def check_declared(factory: GameFactory, played: Sequence[Match]) -> None:
    """Equal observations of the player to move must mean equal legal moves; with perfect information, equal all."""
    game = factory()
    perfect, enumerable = has_perfect_information(game), isinstance(game, Enumerable)
    if not perfect and not enumerable:
        return
    known: dict[str, tuple[View, Place]] = {}
    compared = 0
    for match in played:
        table = Table(factory, seeded(match.seed))
        for step in range(len(match.moves)):
            view, here = table.look(), (table.start, match.moves[:step])
            assert view.player is not None
            text = view.seen[view.player]
            key = text if perfect else f"{view.player} {text}"
            first, there = known.setdefault(key, (view, here))
            if perfect and first.player != view.player:
                raise Broken(
                    f"perfect_information is declared and the observation {short(text)} does not tell who is to move: "
                    f"player {first.player} in one match, player {view.player} in another; put the player into it"
                )
            _same_moves(first, view, text, table)
            if perfect and enumerable and here != there and compared < PAIRS:
                compared += 1
                _same_end(factory, there, here, text)
            table.play(match.moves[step])


def _same_moves(first: View, view: View, text: str, table: Table) -> None:
    if (first.moves is None) != (view.moves is None) or set(first.moves or ()) != set(view.moves or ()):
        raise Broken(
            f"the observation {short(text)} hides what is legal: {short(first.moves)} in one match and "
            f"{short(view.moves)} in another {table.where()}; let the observation tell them apart"
        )


def _same_end(factory: GameFactory, there: Place, here: Place, text: str) -> None:
    """With perfect information and no chance left, one observation has one future."""
    one, two = Table(factory, *there), Table(factory, *here)
    rng = random.Random(8)
    for _ in range(1_000):
        left, right = one.look(), two.look()
        seen = [view.player is not None and view.seen[view.player] for view in (left, right)]
        if left.player != right.player or seen[0] != seen[1] or left.returns != right.returns:
            raise Broken(
                f"perfect_information is declared and after the observation {short(text)} the same moves led to two "
                f"different matches {one.where()} and {two.where()}; hide nothing, or do not declare it"
            )
        if left.player is None:
            return
        move = one.random_move(left, rng)
        one.play(move)
        two.play(move)


def check_resample(factory: GameFactory, places: Sequence[Place]) -> None:
    """No player may notice that what it does not know was redrawn."""
    if not callable(getattr(factory(), "resample", None)):
        return
    changed = False
    for start, moves in places:
        before = Table(factory, start, moves).look()
        for player in range(len(before.seen)):
            table = Table(factory, start, moves)
            game: Any = table.game
            for number in range(3):
                with doing(f"resample({player}, rng) {table.where()}"):
                    game.resample(player, random.Random(number))
                after = table.look()
                _unnoticed(before, after, player, table)
                changed = changed or after != before
            play_out(table.fork(), random.Random(9))
            changed = changed or same_future(table, Table(factory, start, moves), random.Random(10)) is not None
    if not changed and not has_perfect_information(factory()):
        raise Broken(
            "resample(player, rng) never changed anything; redraw all that the player does not know, or declare "
            "perfect_information = True if nothing is hidden"
        )


def _unnoticed(before: View, after: View, player: int, table: Table) -> None:
    if after.seen[player] != before.seen[player]:
        raise Broken(
            f"observe({player}) leaks what player {player} may not know: it was {short(before.seen[player])} and is "
            f"{short(after.seen[player])} after resample({player}, rng) {table.where()}"
        )
    if after.player != before.player or (before.player == player and set(after.moves or ()) != set(before.moves or ())):
        raise Broken(
            f"the player to move or its legal moves leak what player {player} may not know: they changed with "
            f"resample({player}, rng) {table.where()}"
        )


def check_leaks(factory: GameFactory, played: Sequence[Match], seed: int) -> Iterator[str]:
    """Without `resample`: does what one player sees always give away all that varies for another?

    Public chance looks the same as a leak, so a game where nothing is hidden must say so, and one where player p has
    no secret from player q must have `resample`. A pair is reported only if no opening of up to 3 moves shows a
    secret: later play may rightly reveal everything, and what is private may be dealt late.
    """
    game = factory()
    if game.num_players == 1 or has_perfect_information(game) or callable(getattr(game, "resample", None)):
        return
    deals = first_deals(factory)
    exact = 0 < len(deals) <= MAX_DEALS
    starts = [dealt(deal) for _, deal in deals] if exact else [seeded(seed + i) for i in range(NUM_STARTS)]
    openings = sorted({match.moves[:length] for match in played[:4] for length in range(4)}, key=len)
    samples = [list(_sample(factory, starts, opening)) for opening in openings]
    for p, q in itertools.permutations(range(game.num_players), 2):
        verdicts = [_given_away([(seen[p], seen[q]) for seen in views], exact) for views in samples]
        if True in verdicts and False not in verdicts:
            theirs, mine = (short(samples[verdicts.index(True)][0][player], 50) for player in (q, p))
            yield (
                f"observe({q}) leaks what player {p} sees: in {len(starts)} deals, observe({q}) always gave away "
                f"observe({p}), such as {mine} when it was {theirs}; hide it, or declare perfect_information = True if "
                f"nothing is hidden, or add resample(player, rng) if only player {p} has no secret from player {q}"
            )


def _sample(factory: GameFactory, starts: Sequence[Start], opening: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What all players see after an opening, for each start where it is legal and the match goes on."""
    for start in starts:
        table = Table(factory, start)
        if not table.follows(opening):
            continue
        view = table.look()
        if view.player is not None:
            yield view.seen


def _given_away(pairs: Sequence[tuple[str, str]], exact: bool) -> bool | None:
    """Whether the second of a pair determines the first; None if that cannot be told.

    From samples: groups of equal seconds must have equal firsts, and that must be too unlikely for firsts that do
    not depend on the seconds: a group of n agrees with probability sum over values of (share of the value)^n.
    """
    shares = Counter(mine for mine, _ in pairs)
    if len(shares) < 2:
        return None
    groups: dict[str, list[str]] = defaultdict(list)
    for mine, theirs in pairs:
        groups[theirs].append(mine)
    if any(len(set(group)) > 1 for group in groups.values()):
        return False
    if exact:
        return True
    luck = sum(
        math.log(sum((count / len(pairs)) ** len(group) for count in shares.values())) for group in groups.values()
    )
    return True if luck < math.log(LUCK) else None
