"""Finds random legal moves of environments whose moves cannot be listed, by trying likely ones on copies of the match.

What is likely is read off the player's messages: text in brackets, the same with other numbers and letters, the words
on display. Games for which that is hopeless have candidates of their own (`move_candidates`).
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spiral import Game, try_move
from spiral_games.textarena.messages import BOARD, PROMPT, Message
from spiral_games.textarena.move_candidates import CANDIDATES

MAX_TRIES = 600
_BRACKETS = re.compile(r"\[([^\[\]\n]{1,80})\]")
_SEVERAL = re.compile(r"(?:\[[^\[\]\n]{1,40}\]\s*){2,6}")
_BLANKS = re.compile(r"<[^<>]*>|\b[xyXYNk]\b|\bX\.XX\b")
_PARTS = re.compile(r"\d+|\b[A-Za-z]\b|(?<![A-Za-z])[A-Za-z](?=\d)")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CHAT = ("Hello.", "I agree.", "Let us see.", "What do you think?", "Not now.")


class Likely(NamedTuple):
    """What likely moves are made from."""

    messages: Sequence[Message]
    """All messages to the player to move."""
    env: Any
    brackets: bool
    """Whether a move may leave out the brackets round it."""


def sample(game: Game, likely: Likely, rng: random.Random) -> str | None:
    """A random legal move of the player to move; None if none is found in MAX_TRIES tries."""
    spare = copy.deepcopy(game)
    seen: set[str] = set()
    for _, candidate in zip(range(MAX_TRIES), _candidates(likely, rng), strict=False):
        move = _plain(candidate) if likely.brackets else candidate
        # A refused move leaves the copy as it was, so that it serves for the next one.
        if move not in seen and try_move(spare, move):
            return move
        seen.add(move)
    return None


def _plain(move: str) -> str:
    """A move without the brackets round it, where they are the only ones."""
    inside = move[1:-1]
    return inside if move[:1] == "[" and move[-1:] == "]" and not {"[", "]"} & set(inside) else move


def _candidates(likely: Likely, rng: random.Random) -> Iterator[str]:
    """Likely moves, the likeliest first; in another order every time."""
    candidates = CANDIDATES.get(type(likely.env).__name__)
    if candidates is not None:
        yield from candidates(likely.env, rng)
        return
    boards = [m.text for m in likely.messages if m.kind == BOARD][-1:]
    recent = [m.text for m in likely.messages[-4:] if m.kind != PROMPT]
    prompts = [m.text for m in likely.messages if m.kind == PROMPT]
    offered = _bracketed([*boards, *recent])
    examples = _bracketed([*prompts, *boards, *recent])
    rng.shuffle(offered)
    if not likely.brackets:
        yield rng.choice(_CHAT)
    yield from offered[:20]
    displayed = sorted({w for text in [*boards, *recent, *prompts] for w in _WORD.findall(text)})
    # The right range of numbers is unknown, so each round of guesses tries another one.
    while True:
        size = rng.choice((3, 6, 10, 20, 100))
        if examples:
            for _ in range(6):
                yield _varied(rng.choice(examples), size, rng)
            yield rng.choice(examples)
        if displayed:
            yield f"[{rng.choice(displayed)}]"
        yield f"[{rng.randint(0, size)}]"
        yield f"[{rng.randint(0, size)} {rng.randint(0, size)}]"
        yield f"[{rng.choice('abcdefghijklmnopqrstuvwxyz')}]"
        yield rng.choice(_CHAT)


def _bracketed(texts: list[str]) -> list[str]:
    """What stands in brackets, each once, brackets included; also several brackets in a row as one move."""
    moves: dict[str, None] = {}  # a dict as an ordered set: the order must not depend on hashes
    for text in texts:
        moves.update((f"[{inside.strip()}]", None) for inside in _BRACKETS.findall(text))
        moves.update((row.strip(), None) for row in _SEVERAL.findall(text))
    return list(moves)


def _varied(example: str, size: int, rng: random.Random) -> str:
    """An example with blanks filled in, and with other numbers and single letters in their places."""

    def other(match: re.Match[str]) -> str:
        part = match[0]
        if part.isdigit():
            return str(rng.randint(0, size))
        first = "A" if part.isupper() else "a"
        return chr(ord(first) + rng.randint(0, min(size, 25)))

    filled = _BLANKS.sub(lambda _: str(rng.randint(0, size)), example) if rng.random() < 0.5 else example
    return _PARTS.sub(other, filled)
