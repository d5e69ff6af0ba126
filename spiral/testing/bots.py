"""The promises of a bot, on every game it can play."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from spiral.api.errors import SpiralError
from spiral.api.games import IllegalMove
from spiral.api.policies import Bot
from spiral.testing.information import first_deals
from spiral.testing.playing import MAX_MOVES, GameFactory, Start, Table, View, dealt, same_future, seeded
from spiral.testing.violations import Broken, doing, findings, global_chance, short

BotFactory = Callable[[], Bot]

NUM_MATCHES = 10
"""Matches on each game; the bot plays all chairs of every other one, and one chair of the rest."""
MAX_OTHERS = 20
"""Other deals that are tried for one decision."""


class Decision(NamedTuple):
    """A position in which the bot had to move."""

    start: Start
    moves: tuple[str, ...]
    view: View


def check_bot(factory: BotFactory, games: Mapping[str, GameFactory], *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.policies.Bot` that `factory()` breaks on these games, a sentence each.

    A game that the bot refuses with a SpiralError at its first move is left out; one game must remain. The games
    themselves are taken to keep their promises. Deterministic in `seed`.
    """
    refusals: list[str] = []
    found: list[str] = []
    for name, game in games.items():
        try:
            found += [f"{name}: {broken}" for broken in findings([partial(_game, factory, game, seed)])]
        except SpiralError as refusal:
            refusals.append(f"{name} ({refusal})")
    if len(refusals) == len(games):
        found.append("the bot plays none of the games tried: " + ("; ".join(refusals) or "none was given"))
    return found


def _game(factory: BotFactory, game: GameFactory, seed: int) -> None:
    """Raises SpiralError for a game that the bot cannot play."""
    with doing("making the bot"):
        bot, twin = factory(), factory()
    for number in range(NUM_MATCHES):
        decisions = list(_match(bot, twin, game, seed + number, alone=number % 2 == 1))
        for decision in decisions[:: max(1, len(decisions) // 5)]:
            _hidden(bot, game, decision)


def _match(bot: Bot, twin: Bot, game: GameFactory, seed: int, alone: bool) -> Iterator[Decision]:
    """Play a match; every decision of the bot is checked before it is played."""
    table, rng = Table(game, seeded(seed)), random.Random(seed)
    chair = seed // 2 % table.game.num_players
    asked = False
    for _ in range(MAX_MOVES):
        view = table.look()
        if view.player is None:
            return
        if alone and view.player != chair:
            table.play(table.random_move(view, rng))
            continue
        move = _choose(bot, table, view, len(table.moves), refusable=not asked)
        asked = True
        _legal(table, view, move)
        _repeated(bot, twin, table, view, move)
        yield Decision(table.start, tuple(table.moves), view)
        table.play(move)
    raise Broken(f"a match of the bot against itself is not over after {MAX_MOVES:,} moves {table.where()}")


def _choose(bot: Bot, table: Table, view: View, seed: int, refusable: bool = False) -> str:
    """The bot's move; the generator is seeded with `seed`."""
    assert view.player is not None
    try:
        move: Any = bot.choose(table.game, view.player, random.Random(seed))
    except Exception as error:
        if refusable and isinstance(error, SpiralError):
            raise
        raise Broken(f"choose raised {type(error).__name__}: {error} {table.where()}") from error
    if not isinstance(move, str):
        raise Broken(f"choose gave {short(move)}, not a str {table.where()}")
    return move


def _legal(table: Table, view: View, move: str) -> None:
    try:
        table.fork().game.play(move)
    except IllegalMove as reason:
        legal = "" if view.moves is None else f"; legal were {short(view.moves)}"
        raise Broken(f"choose gave the illegal move {short(move)} ({reason}){legal} {table.where()}") from reason


def _repeated(bot: Bot, twin: Bot, table: Table, view: View, move: str) -> None:
    """The same rng gives the same move, from this bot and from its twin, and the game stays as it was."""
    before = table.fork()
    with global_chance() as chance:
        for number, player in enumerate((bot, twin, bot)):
            chance(number)
            again = _choose(player, table, view, len(table.moves))
            if again != move:
                raise Broken(
                    f"choose gave {short(move)} and {short(again)} for one position and one state of rng; draw from "
                    f"rng alone and remember nothing between calls {table.where()}"
                )
    differ = same_future(table.fork(), before, random.Random(1))
    if differ:
        raise Broken(f"choose changes the game: {differ} (asked game first); look at a copy.deepcopy of it")


def _hidden(bot: Bot, game: GameFactory, decision: Decision) -> None:
    """Whatever differs only in what the player does not know must not change the move."""
    here = Table(game, decision.start, decision.moves)
    player = decision.view.player
    assert player is not None
    for other in _alike(game, decision):
        for seed in range(3):
            moves = [_choose(bot, table, decision.view, seed) for table in (here, other)]
            if moves[0] != moves[1]:
                raise Broken(
                    f"choose reads what observe({player}) hides: with {short(decision.view.seen[player])} and one "
                    f"state of rng it gave {short(moves[0])} {here.where()} and {short(moves[1])} {other.where()}"
                )


def _alike(game: GameFactory, decision: Decision) -> Iterator[Table]:
    """Matches that look the same to the player to move and may differ in all else."""
    player, rng = decision.view.player, random.Random(len(decision.moves))
    assert player is not None
    deals = [deal for _, deal in first_deals(game)]
    for deal in rng.sample(deals, min(MAX_OTHERS, len(deals))):
        table = Table(game, dealt(deal))
        if table.follows(decision.moves):
            view = table.look()
            if view.player == player and view.seen[player] == decision.view.seen[player]:
                yield table
    table = Table(game, decision.start, decision.moves)
    resample = getattr(table.game, "resample", None)
    if callable(resample):
        for _ in range(3):
            resample(player, rng)
            yield table
