"""Matches of the arena as examples: the JSON lines that `spiral sft` learns from and `spiral tournament` rates.

The arena keeps seed and moves; what a player was shown is found by playing the match again, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from spiral.api.answers import thoughts_before
from spiral.api.records import outcome_of, outcome_word
from spiral.arena.game_process import GameFault, GameHost
from spiral.arena.records import StoredMatch
from spiral.arena.reply_tokens import Tokens, read_tokens
from spiral.arena.store import Store
from spiral.selfplay.examples import Example

Keep = Literal["wins", "all"]

PAGE = 100
"""Matches read from the database at a time, and at most of one answer over HTTP."""


class Changed(Exception):
    """A match cannot be played again with the game as it is installed now; the text is the cause."""


@dataclass(frozen=True)
class Wanted:
    """Which decisions are exported."""

    keep: Keep = "all"
    """Every player's, or those of winners that did not win by the other's fault."""
    player: str | None = None
    """Of one player, by its name."""


def examples_of(
    match: StoredMatch,
    host: GameHost,
    wanted: Wanted = Wanted(),  # frozen
    tokens: Mapping[int, Tokens] = MappingProxyType({}),
) -> list[Example]:
    """The legal moves of a match that ended, in the order of play; `tokens`: of its moves. Raises Changed."""
    assert match.returns is not None
    names, results = (
        [one.name for one in match.players],
        [outcome_word(outcome_of(match.returns, n)) for n in range(len(match.returns))],
    )
    numbers = [number for number, move in enumerate(match.moves) if move.legal]
    legal = [match.moves[number] for number in numbers]
    found = []
    try:
        views = host.replay(match.game, match.seed, [move.move for move in legal])
    except GameFault as fault:
        raise Changed(str(fault)) from fault
    for turn, (view, made) in enumerate(zip(views, legal, strict=False)):  # the last view is after the last move
        if view.to_move != made.seat:
            raise Changed(f"player {view.to_move} is to move in turn {turn}, and not {made.seat}")
        sampled = tokens.get(numbers[turn])
        whole = sampled.tokens if sampled is not None and not sampled.left_out else None
        found.append(
            Example(
                game=match.game, number=match.id, deal=match.seed, player=made.seat, policy=names[made.seat],
                policies=names, returns=list(match.returns), outcome=results[made.seat],
                ending=match.ending or "finished", turn=turn, turns=len(legal),
                history=[move.move for move in legal[:turn]], rules=view.rules,
                observation=view.observations[made.seat],
                legal_moves=None if view.legal_moves is None else list(view.legal_moves),
                thoughts=thoughts_before(made.said, made.move), move=made.move, reply=made.said or None,
                tokens=None if whole is None else [token.text for token in whole],
                logprobs=None if whole is None else [token.logprob for token in whole],
            )
        )  # fmt: skip
    return [one for one in found if _wanted(one, wanted)]


def export(
    store: Store,
    host: GameHost,
    game: str = "",
    wanted: Wanted = Wanted(),
    after: int = 0,  # frozen
) -> Iterator[tuple[StoredMatch, list[Example] | Changed]]:
    """All matches that ended after the `after`-th did, in the order in which they ended; with the cause for one that
    cannot be played again."""
    while page := store.ended(after, PAGE, game):
        for _, match in page:
            try:
                yield match, examples_of(match, host, wanted, read_tokens(store.database, match.id))
            except Changed as changed:
                yield match, changed
        after = page[-1][0]


def _wanted(example: Example, wanted: Wanted) -> bool:
    if wanted.player is not None and example.policy != wanted.player:
        return False
    return wanted.keep == "all" or (example.outcome == "win" and example.ending == "finished")
