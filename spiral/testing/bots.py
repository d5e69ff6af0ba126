"""Checks a bot against the contract of `spiral.api.policies.Bot`, on every game that it can play."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from spiral.api.errors import SpiralError
from spiral.api.games import IllegalMove, is_resamplable
from spiral.api.policies import Bot
from spiral.plugins.faults import told
from spiral.selfplay.bot_faults import is_from
from spiral.testing.information import first_deals
from spiral.testing.playing import (
    MAX_MOVES,
    GameFactory,
    PlayedMatch,
    Position,
    View,
    dealt,
    describe_difference,
    first_difference,
    seeded,
)
from spiral.testing.violations import Notice, Violation, global_generators, short

BotFactory = Callable[[], Bot]

NUM_MATCHES = 10
"""Matches on each game; the bot plays for all players of every other one, and for one player of the rest."""
MAX_OTHERS = 20
"""Other deals that are tried for one decision."""


class BotViolation(Violation):
    """The bot does not keep its contract; any other violation on the way is the game's."""


class Decision(NamedTuple):
    """A position in which the bot had to move."""

    position: Position
    view: View


def check_bot(
    factory: BotFactory,
    games: Mapping[str, GameFactory],
    *,
    seed: int = 0,
    progress: Callable[[str], object] | None = None,
) -> list[str]:
    """The violations of `spiral.api.policies.Bot` by `factory()` on these games, a sentence each; [] if there are none.

    - `choose` returns a legal move as a str, and raises nothing after its first move of a game.
    - It draws all chance from `rng` and remembers nothing between calls: two bots and one bot asked twice agree.
    - It leaves the game as it was.
    - It reads nothing that `observe(player)` hides: positions that differ only in that get the same move.

    A game that the bot refuses with a SpiralError at its first move is left out, and so is, with a Notice, one that is
    broken itself; one game must remain. Deterministic in `seed`. `progress` is called with each game's name before it.

    Example: `assert check_bot(MyBot, {"high_card": HighCard}) == []`
    """
    refusals: list[str] = []
    violations: list[str] = []
    for name, game in games.items():
        if progress:
            progress(name)
        try:
            with global_generators() as seed_globals:
                seed_globals(0)  # what a bot wrongly draws from them is then the same in every run of the kit
                _check_on_game(factory, game, seed)
        except SpiralError as refusal:
            refusals.append(f"{name} ({refusal})")
        except BotViolation as violation:
            violations.append(f"{name}: {violation}")
        except Exception as error:  # whatever else is wrong is the game's, and no reason to blame or to spare the bot
            what = str(error) if isinstance(error, Violation) else told(error)
            notice = f"not tried on {name}, which is broken itself: {what}; run: spiral check {name}"
            warnings.warn(Notice(notice), stacklevel=2)
            refusals.append(f"{name} ({what})")
    if len(refusals) == len(games):
        violations.append(
            f"the bot plays none of the games tried: {'; '.join(refusals) or 'none was given'}; try it on a game that "
            "it plays, which a registered bot names in `tried_on`"
        )
    return violations


def _check_on_game(factory: BotFactory, game: GameFactory, seed: int) -> None:
    """All checks on one game. Raises SpiralError for a game that the bot cannot play."""
    try:
        bot, twin = factory(), factory()
    except SpiralError as error:
        raise BotViolation(f"making the bot raised {type(error).__name__}: {error}") from error
    except Exception as error:
        raise BotViolation(f"making the bot raised {told(error)}") from error
    for number in range(NUM_MATCHES):
        decisions = list(_decisions(bot, twin, game, seed + number, one_player=number % 2 == 1))
        for decision in decisions[:: max(1, len(decisions) // 5)]:
            _check_hidden(bot, game, decision)


def _decisions(bot: Bot, twin: Bot, game: GameFactory, seed: int, one_player: bool) -> Iterator[Decision]:
    """Play a match; every decision of the bot is checked before it is played. The other players move at random."""
    match, rng = PlayedMatch(game, seeded(seed)), random.Random(seed)
    own_player = seed // 2 % match.game.num_players
    refusable = True  # a bot says at its first move whether it plays the game, and not in the middle of a match
    for _ in range(MAX_MOVES):
        view = match.view()
        if view.player is None:
            return
        if one_player and view.player != own_player:
            match.play(match.random_move(view, rng))
            continue
        shown = match.fork()
        move = _choose(bot, shown, view, len(match.moves), refusable)
        _check_unchanged(shown, match, _seen_difference)
        refusable = False
        _check_legal(match, view, move)
        _check_repeated(bot, twin, match, shown, move)
        yield Decision((match.start, tuple(match.moves)), view)
        match.play(move)
    raise BotViolation(
        f"a match of the bot against itself is not over after {MAX_MOVES:,} moves; choose moves that bring it to an "
        f"end {match.where()}"
    )


def _choose(bot: Bot, match: PlayedMatch, view: View, seed: int, refusable: bool = False) -> str:
    """The bot's move with a generator seeded with `seed`. Raises SpiralError only if the bot does and may refuse."""
    assert view.player is not None
    try:
        move: Any = bot.choose(match.game, view.player, random.Random(seed))
    except Exception as error:
        own = isinstance(error, IllegalMove) or not is_from(match.game, error)
        if (refusable and isinstance(error, SpiralError)) or not own:
            raise
        raise BotViolation(
            f"choose raised {type(error).__name__}: {error}; return a legal move, or raise SpiralError at the first "
            f"move of a game that the bot cannot play {match.where()}"
        ) from error
    if not isinstance(move, str):
        raise BotViolation(f"choose returned {short(move)}; return the move as a str {match.where()}")
    return move


def _check_legal(match: PlayedMatch, view: View, move: str) -> None:
    try:
        match.fork().game.play(move)
    except IllegalMove as reason:
        remedy = "a move that play accepts" if view.moves is None else f"one of {short(view.moves)}"
        raise BotViolation(
            f"choose returned the illegal move {short(move)} ({reason}); return {remedy} {match.where()}"
        ) from reason


def _check_repeated(bot: Bot, twin: Bot, match: PlayedMatch, shown: PlayedMatch, move: str) -> None:
    """An equal rng gives the same move, from this bot and from a second one; and the game that they are shown, a fork
    of the match, goes on as one does that no bot ever saw."""
    view = match.view()
    with global_generators() as seed_globals:
        # Each call runs under other global seeds, and the bot is asked twice as often as its twin: a draw from a global
        # generator, and anything that is remembered between calls, shows as another move.
        for number, asked in enumerate((bot, twin, bot)):
            seed_globals(number)
            repeated = _choose(asked, shown, view, len(match.moves))
            if repeated != move:
                raise BotViolation(
                    f"choose returned {short(move)} and {short(repeated)} for one position and one state of rng; draw "
                    f"from rng alone and remember nothing between calls {match.where()}"
                )
    _check_unchanged(shown, match, _later_difference)


def _check_unchanged(
    shown: PlayedMatch, match: PlayedMatch, difference_of: Callable[[PlayedMatch, PlayedMatch], str | None]
) -> None:
    """The game that a bot was shown is as the match, which it never saw."""
    try:
        difference = difference_of(shown, match.fork())
    except Violation as violation:
        difference_of(match.fork(), match.fork())  # raises too where the game is broken by itself
        difference = str(violation)
    if difference:
        raise BotViolation(
            f"choose changes the game: {difference} (the game that was passed to choose, and one that was not); work "
            "on a copy.deepcopy of it"
        )


def _seen_difference(shown: PlayedMatch, other: PlayedMatch) -> str | None:
    return describe_difference(shown.view(), other.view())


def _later_difference(shown: PlayedMatch, other: PlayedMatch) -> str | None:
    return first_difference(shown, other, random.Random(1))


def _check_hidden(bot: Bot, game: GameFactory, decision: Decision) -> None:
    """The bot's move is the same in all matches that differ only in what its player does not know."""
    match = PlayedMatch(game, *decision.position)
    player = decision.view.player
    assert player is not None
    for other in _indistinguishable(game, decision):
        for seed in range(3):
            moves = [_choose(bot, asked, decision.view, seed) for asked in (match, other)]
            if moves[0] != moves[1]:
                raise BotViolation(
                    f"choose reads what observe({player}) hides: for {short(decision.view.observations[player])} and "
                    f"one state of rng it returned {short(moves[0])} {match.where()} and {short(moves[1])} "
                    f"{other.where()}; decide from observe({player}) and the legal moves alone"
                )


def _indistinguishable(game: GameFactory, decision: Decision) -> Iterator[PlayedMatch]:
    """Matches that the player to move cannot tell from the decision's: its observation is equal.

    Other deals with the same moves, where the deals can be listed; then what `resample` makes of the match itself.
    """
    (start, moves), view = decision.position, decision.view
    player, rng = view.player, random.Random(len(moves))
    assert player is not None
    deals = [deal for _, deal in first_deals(game)]
    for deal in rng.sample(deals, min(MAX_OTHERS, len(deals))):
        match = PlayedMatch(game, dealt(deal))
        if match.try_moves(moves):
            other = match.view()
            if other.player == player and other.observations[player] == view.observations[player]:
                yield match
    match = PlayedMatch(game, start, moves)
    if is_resamplable(match.game):
        for _ in range(3):
            match.game.resample(player, rng)
            yield match
