"""The tokens of a reply by a policy of the house, with their log-probabilities, as they are kept with its move."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from spiral.api.records import Completion
from spiral.arena import database as db
from spiral.models.pieces import pieces

MAX_TOKENS = 2_000
"""Tokens of a reply that are kept, the last ones: those hold the move."""
MAX_PIECE = 200
"""Characters of one of them."""


@dataclass(frozen=True)
class Token:
    """One of a reply."""

    text: str
    """Empty where it begins a character that the next ones complete."""
    logprob: float
    """In nats, under the distribution that it was sampled from."""
    forced: bool
    """Whether the prompt format put it there."""

    @property
    def probability(self) -> float:
        """Between 0 and 1."""
        return math.exp(self.logprob)


@dataclass(frozen=True)
class Tokens:
    """Those of one reply, the id that ended it among them."""

    tokens: tuple[Token, ...]
    logprob: float
    """Of the whole reply, in nats."""
    left_out: int = 0
    """Tokens before these, which are not kept."""

    @property
    def length(self) -> int:
        """Of the whole reply, in tokens."""
        return self.left_out + len(self.tokens)


@dataclass(frozen=True)
class TokensKept:
    """That there are some."""

    length: int
    logprob: float


def tokens_of(reply: Completion, decode: Callable[[list[int]], str]) -> Tokens:
    """Of an engine's reply; `decode`: ids -> text, special tokens by their names."""
    forced = set(reply.forced)
    told = [
        Token(db.storable(text)[:MAX_PIECE], round(logprob, 4), place in forced)
        for place, (text, logprob) in enumerate(zip(pieces(reply.ids, decode), reply.logprobs, strict=True))
    ]
    return Tokens(tuple(told[-MAX_TOKENS:]), round(sum(reply.logprobs), 4), max(0, len(told) - MAX_TOKENS))


def add_tokens(connection: Connection, match: int, number: int, tokens: Tokens) -> None:
    """Keep those of the `number`-th move of a match."""
    row = {"length": tokens.length, "logprob": tokens.logprob, "tokens": [_row(token) for token in tokens.tokens]}
    connection.execute(insert(db.move_tokens).values(match=match, number=number, **row))


def kept(database: db.Database, match: int) -> dict[int, TokensKept]:
    """The moves of a match that have some, without them."""
    c = db.move_tokens.c
    with database.read() as connection:
        rows = connection.execute(select(c.number, c.length, c.logprob).where(c.match == match))
        return {row.number: TokensKept(row.length, row.logprob) for row in rows}


def read_tokens(database: db.Database, match: int, number: int | None = None) -> dict[int, Tokens]:
    """Those of all moves of a match that have some, or of one move."""
    asked = select(db.move_tokens).where(db.move_tokens.c.match == match)
    if number is not None:
        asked = asked.where(db.move_tokens.c.number == number)
    with database.read() as connection:
        return {row.number: _read(row) for row in connection.execute(asked)}


def as_json(tokens: Tokens | None) -> dict[str, Any] | None:
    """As the interface gives them."""
    return None if tokens is None else asdict(tokens)


def _row(token: Token) -> list[Any]:
    return [token.text, token.logprob, token.forced]


def _read(row: Any) -> Tokens:
    return Tokens(tuple(Token(*one) for one in row.tokens), row.logprob, row.length - len(row.tokens))
