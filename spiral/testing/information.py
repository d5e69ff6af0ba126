"""Checks what a game lets each player know: leaks of hidden information, and the listed deals.

A leak cannot be read from one position: an observation leaks only if it depends on what its player may not know, and so
do the messages of a game that keeps them. So positions are compared that differ in nothing else. A game with the
optional method `resample(player, rng)`, which redraws all that `player` does not know, is tested exactly: after a
redraw the player must observe, and have been told, the same. Without it, many deals are compared: if what player q is
shown always determines the observation of player p, then p hides nothing from q.
"""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spiral.api.games import Enumerable, has_perfect_information, is_resamplable
from spiral.testing.messages import Told, messages_of
from spiral.testing.playing import (
    FinishedMatch,
    GameFactory,
    PlayedMatch,
    Position,
    Start,
    View,
    dealt,
    first_difference,
    play_out,
    seeded,
)
from spiral.testing.violations import Notice, Violation, doing, global_generators, is_finite, short

NUM_STARTS = 200
"""Random deals that are compared where the deals cannot be listed."""
MAX_DEALS = 2_000
"""A longer list of deals is sampled."""
NUM_RESETS = 2_000
"""Calls of `reset` whose starts are counted against the listed probabilities."""
MAX_COINCIDENCE = 1e-6
"""A pattern that is at least this probable without a leak is not reported as one."""


def check_joint_state(factory: GameFactory, positions: Sequence[Position]) -> None:
    """Of a game with `joint_state`: it is text, asking changes nothing, and positions that it gives one name are
    observed alike by all players. Raises Violation."""
    if not callable(getattr(factory(), "joint_state", None)):
        return
    known: dict[str, PlayedMatch] = {}
    for start, moves in positions:
        match = PlayedMatch(factory, start, moves)
        before = match.view()
        if before.player is None:  # no move, so no baseline
            continue
        with doing(f"joint_state() {match.where()}"):
            name: Any = match.game.joint_state()  # type: ignore[attr-defined]
        if not isinstance(name, str):
            raise Violation(f"joint_state() is {short(name)}; make it a str {match.where()}")
        if match.view() != before:
            raise Violation(
                f"joint_state() changes the match; let no method but reset and play do that {match.where()}"
            )
        other = known.setdefault(name, match)
        if other.view().observations != before.observations:
            raise Violation(
                f"joint_state() is {short(name)} at two positions that the players observe differently, "
                f"{other.where()} and {match.where()}; let it tell everything that any player has seen"
            )


def first_deals(factory: GameFactory) -> list[tuple[float, Any]]:
    """The deals of an `Enumerable` game, at most MAX_DEALS + 1 of them; [] for other games."""
    game = factory()
    if not isinstance(game, Enumerable):
        return []
    with doing("deals()"):
        return list(itertools.islice(game.deals(), MAX_DEALS + 1))


def check_deals(factory: GameFactory, seed: int) -> None:
    """Of an `Enumerable` game: the probabilities are positive and add up to 1, a match is a function of the deal and
    the moves, and `reset` deals with the listed probabilities. Raises Violation."""
    if not isinstance(factory(), Enumerable):
        return
    deals = first_deals(factory)
    total = 0.0
    for entry in deals:
        if not isinstance(entry, tuple) or len(entry) != 2 or not is_finite(entry[0]) or entry[0] <= 0:
            raise Violation(f"deals() yields {short(entry)}; yield pairs of a probability above 0 and a deal")
        total += entry[0]
    if len(deals) <= MAX_DEALS and abs(total - 1) > 1e-9:
        raise Violation(f"the probabilities of deals() add up to {total:.6g}; make that 1")
    rng = random.Random(seed)
    for _, deal in rng.sample(deals, min(40, len(deals))):
        with global_generators() as seed_globals:
            # A used game still holds the generator of its last `reset`; a new one has none. A match that draws from it,
            # or from the global generators, which are seeded differently for the two, differs between them.
            used = PlayedMatch(factory, seeded(seed))
            play_out(used, random.Random(seed))
            used.begin(dealt(deal))
            difference = first_difference(
                used,
                PlayedMatch(factory, dealt(deal)),
                rng,
                lambda match, step: seed_globals(1_000_003 * match + step),
            )
        if difference:
            raise Violation(
                f"after reset_to(deal) a match is not a function of the moves alone: {difference}; set everything in "
                "reset_to, and draw nothing after it"
            )
    if len(deals) <= MAX_DEALS:
        _check_frequencies(factory, deals)


def _check_frequencies(factory: GameFactory, deals: Sequence[tuple[float, Any]]) -> None:
    """Counts starts, not deals: a game need not say which deal `reset` drew."""
    expected: dict[View, float] = defaultdict(float)
    for probability, deal in deals:
        expected[PlayedMatch(factory, dealt(deal)).view()] += probability
    match = PlayedMatch(factory, seeded(0))
    counts: Counter[View] = Counter()
    for number in range(NUM_RESETS):
        match.begin(seeded(number))
        start = match.view()
        if start not in expected:
            raise Violation(
                f"reset gave a start that no deal of deals() gives: {short(start.observations)}; list every deal that "
                f"reset can draw {match.where()}"
            )
        counts[start] += 1
    for start, probability in expected.items():
        # Six standard deviations, and a few for starts that are rare: fails for a wrong game, never by chance.
        allowed = 6 * math.sqrt(NUM_RESETS * probability * max(0.0, 1 - probability)) + 6
        if abs(counts[start] - NUM_RESETS * probability) > allowed:
            raise Violation(
                f"deals() gives the start {short(start.observations)} the probability {probability:.4g} and reset gave "
                f"it {counts[start]} times of {NUM_RESETS}; make the two agree"
            )


def check_resample(factory: GameFactory, positions: Sequence[Position]) -> None:
    """Of a `Resamplable` game: no player notices at any position that what it does not know was redrawn, a redrawn
    match can be played to its end, and some redraw changes something. Raises Violation."""
    if not is_resamplable(factory()):
        return
    changed = False
    for start, moves in positions:
        untouched = PlayedMatch(factory, start, moves)
        before, told = untouched.view(), messages_of(untouched)
        for player in range(len(before.observations)):
            match = PlayedMatch(factory, start, moves)
            game: Any = match.game
            for number in range(3):
                with doing(f"resample({player}, rng) {match.where()}"):
                    game.resample(player, random.Random(number))
                after = match.view()
                _check_unnoticed(before, after, player, match)
                if told and (now := messages_of(match))[player] != told[player]:
                    raise Violation(_leaks_messages(player, told[player], now[player], match))
                changed = changed or after != before
            play_out(match.fork(), random.Random(9))
            # A secret need not be in any observation: it may show later, in a reply to a move or in the returns.
            if not changed:
                changed = first_difference(match, untouched.fork(), random.Random(10)) is not None
    if not changed and not has_perfect_information(factory()):
        raise Violation(
            "resample(player, rng) never changed anything; redraw all that the player does not know, or declare "
            "perfect_information = True if nothing is hidden"
        )


def _check_unnoticed(before: View, after: View, player: int, match: PlayedMatch) -> None:
    if after.observations[player] != before.observations[player]:
        raise Violation(
            f"observe({player}) leaks what player {player} may not know: it was {short(before.observations[player])} "
            f"and is {short(after.observations[player])} after resample({player}, rng); leave out what resample "
            f"redraws, or redraw only what is hidden {match.where()}"
        )
    if after.player != before.player or (before.player == player and set(after.moves or ()) != set(before.moves or ())):
        raise Violation(
            f"the player to move or its legal moves leak what player {player} may not know: they changed with "
            f"resample({player}, rng); let them depend on what the player observes {match.where()}"
        )


def _leaks_messages(player: int, before: Told, after: Told, match: PlayedMatch) -> str:
    place = next((n for n, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    one, other = (told[place] if place is not None else f"{len(told)} messages" for told in (before, after))
    return (
        f"messages({player}) leaks what player {player} may not know: it was {short(one)} and is {short(other)} after "
        f"resample({player}, rng); leave out what resample redraws, or redraw only what is hidden {match.where()}"
    )


def check_leaks(factory: GameFactory, matches: Sequence[FinishedMatch], seed: int) -> Iterator[str]:
    """Of a game without `resample`: no observation, and no messages, always determine what another player observes.

    Public chance looks the same as a leak, so only a game that says `perfect_information = False` is known to hide
    something: of that one violations are yielded, and of a game that says nothing one `Notice` is given. Where player p
    hides nothing from player q, `resample` tells so. A pair is reported only if no opening of up to 3 moves leaves a
    secret: later play may rightly reveal everything, and private information may be dealt late.
    """
    game = factory()
    if game.num_players == 1 or has_perfect_information(game) or is_resamplable(game):
        return
    deals = first_deals(factory)
    exact = 0 < len(deals) <= MAX_DEALS
    starts = [dealt(deal) for _, deal in deals] if exact else [seeded(seed + i) for i in range(NUM_STARTS)]
    openings = sorted({match.moves[:length] for match in matches[:4] for length in range(4)}, key=len)
    # After one opening all positions have the same moves, so that their observations differ by the deal alone.
    samples = [list(_seen_after(factory, starts, opening)) for opening in openings]
    found: list[tuple[int, int, str, str]] = []
    for p, q in itertools.permutations(range(game.num_players), 2):
        for method in ("observe", "messages"):
            pairs = [[(one[p].observed, getattr(one[q], _SEEN_BY[method])) for one in sample] for sample in samples]
            verdicts = [_determined(sample, exact) for sample in pairs]
            if True in verdicts and False not in verdicts:
                secret, leak = (short(text, 50) for text in pairs[verdicts.index(True)][0])
                seen = f"in {len(starts)} deals, {method}({q}) always gave away observe({p})"
                found.append((p, q, method, f"{seen}, such as {secret} when it was {leak}"))
                break  # the messages hold what the observation does
    if hasattr(game, "perfect_information"):
        for p, q, method, seen in found:
            yield (
                f"{method}({q}) leaks what player {p} sees: {seen}; hide it, or declare perfect_information = True if "
                f"nothing is hidden, or add resample(player, rng) if only player {p} has no secret from player {q}"
            )
    elif found:
        _, _, _, seen = found[0]
        more = f", and so with {len(found) - 1} more pairs of players" if len(found) > 1 else ""
        text = (
            f"{seen}{more}; the game does not say whether anything is hidden: declare perfect_information = True if "
            "nothing is, else hide it and declare perfect_information = False, which makes this a violation"
        )
        warnings.warn(text, Notice, stacklevel=2)


class _Seen(NamedTuple):
    """What one player is shown at a position."""

    observed: str
    told: str
    """Its messages as one text; empty in a game that keeps none."""


_SEEN_BY = {"observe": "observed", "messages": "told"}


def _seen_after(factory: GameFactory, starts: Sequence[Start], opening: Sequence[str]) -> Iterator[tuple[_Seen, ...]]:
    """What all players are shown after an opening, for each start where it is legal and the match goes on."""
    for start in starts:
        match = PlayedMatch(factory, start)
        if not match.try_moves(opening):
            continue
        view = match.view()
        if view.player is not None:
            told = messages_of(match) or ((),) * len(view.observations)
            yield tuple(
                _Seen(text, repr(one) if one else "") for text, one in zip(view.observations, told, strict=True)
            )


def _determined(pairs: Sequence[tuple[str, str]], exact: bool) -> bool | None:
    """Whether the second text of a pair determines the first; None if the pairs do not decide it.

    `exact`: the pairs are all that are possible. From samples, pairs with equal second texts must have equal first
    ones, and that must be too improbable if the first ones did not depend on the second: a group of n pairs agrees
    with probability sum over first texts of (share of the text)^n.
    """
    shares = Counter(first for first, _ in pairs)
    if len(shares) < 2:
        return None  # nothing varies for the first player, so there is nothing to give away
    groups: dict[str, list[str]] = defaultdict(list)
    for first, second in pairs:
        groups[second].append(first)
    if any(len(set(group)) > 1 for group in groups.values()):
        return False  # one counterexample is a proof: the second player cannot tell these deals apart
    if exact:
        return True
    # In logarithms, since the product over many groups underflows.
    coincidence = sum(
        math.log(sum((count / len(pairs)) ** len(group) for count in shares.values())) for group in groups.values()
    )
    return True if coincidence < math.log(MAX_COINCIDENCE) else None
