"""A program's side of the arena: register a player, and play rated matches over a WebSocket.

    from spiral.arena_client import play

    def choose(turn):
        return turn.legal_moves[0] if turn.legal_moves else "pass"

    for match in play("http://127.0.0.1:8000", "my model", ["kuhn_poker"], choose, matches=10):
        print(match.game, match.outcome)

Apart from the server: it needs `websockets` alone, and a machine that only plays installs nothing else of the arena.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from spiral.api.errors import SpiralError
from spiral.api.text import printable

PATIENCE_S = 60.0
"""How long the arena may be out of reach, at once, before `play` gives up."""
BACK_OFF_S, MAX_BACK_OFF_S = 0.2, 5.0
"""The first wait before a new connection, and the longest; each is twice the one before."""
HTTP_S = 30.0
"""How long an answer over HTTP may take."""
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
"""What a token looks like; any other text is the name of a new player."""
UNKNOWN = 4401
"""The code with which the arena closes a connection whose token no player has."""
ELSEWHERE = "connected elsewhere"
"""The reason with which it closes one whose place a newer one took."""
PLAYS = "you are in a match"
"""How it begins to refuse a second place in the queue, where the match of the first has just begun."""


@dataclass(frozen=True)
class Turn:
    """What a player is asked."""

    match: int
    game: str
    seat: int
    players: tuple[str, ...]
    """Names, one a seat."""
    rules: str
    number: int
    """Of the turn; another one after an illegal move."""
    observation: str
    """All that this player may know."""
    legal_moves: list[str] | None
    """None where moves are free text."""
    clock_s: float
    """Seconds left for this turn; with none left the match is lost."""
    refused: str = ""
    """Why the move before was illegal, where one was; after three the match is lost."""


@dataclass(frozen=True)
class Match:
    """How a match ended."""

    match: int
    game: str
    seat: int
    players: tuple[str, ...]
    outcome: str
    """win, draw, loss or voided."""
    returns: tuple[float, ...]
    """One a seat; empty for a match that was voided."""
    ending: str
    """finished, illegal, timeout, left or cut; of a voided match its cause."""
    ratings: dict[str, tuple[float, float]]
    """mu and sigma after it, by game; the empty name is over all games. Empty for a match that changed none."""


Choose = Callable[[Turn], str]
"""choose(turn): a move, or a `spiral.SaidMove`, whose whole text is kept with it."""


def register(url: str, name: str, description: str = "") -> str:
    """The token of a new player, which is told this once: who has it plays as this player.

    Raises SpiralError for a name that is taken or is none, and where no arena answers.
    """
    body = json.dumps({"kind": "model", "name": name, "description": description}).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{_base(url)}/api/players", body), timeout=HTTP_S
        ) as answer:
            return str(json.loads(answer.read())["token"])
    except urllib.error.HTTPError as error:
        reason = printable(error.read(2000).decode(errors="replace"))
        raise SpiralError(f"the arena at {url} does not register '{name}': {reason}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpiralError(
            f"no arena answers at {url} ({error}); give the address that `spiral arena` printed"
        ) from error


def play(url: str, token_or_name: str, games: Sequence[str], choose: Choose, matches: int = 10) -> list[Match]:
    """Play so many matches of the games, one after another; how each ended.

    `token_or_name`: a token that `register` gave, or the name of a new player. A lost connection is made again, and
    the match goes on meanwhile. What `choose` raises gives the match up and ends the call. Raises SpiralError for what
    the arena refuses, and when it is out of reach for a minute.
    """
    token = token_or_name if TOKEN.fullmatch(token_or_name) else register(url, token_or_name)
    return _Player(url, token, list(games), choose, matches).run()


class _Player:
    """One call of `play`: what is known of the match across connections."""

    def __init__(self, url: str, token: str, games: list[str], choose: Choose, matches: int) -> None:
        parts = urlsplit(_base(url))
        self._address = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/api/play"
        self._url, self._token, self._games, self._choose, self._matches = url, token, games, choose, matches
        self._begun: dict[str, Any] = {}
        """The `match` message of the match in play."""
        self._refused = ""
        self._ended: list[Match] = []
        self._failed_since: float | None = None
        """When the arena was first out of reach, since it last answered."""

    def run(self) -> list[Match]:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake
        from websockets.sync.client import connect

        wait_s = BACK_OFF_S
        while len(self._ended) < self._matches:
            try:
                with connect(self._address) as socket:
                    self._serve(socket)
                    continue
            except ConnectionClosed as closed:
                self._final(*(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, ""))
                why: Exception = closed
            except (OSError, InvalidHandshake) as error:
                why = error
            now = time.monotonic()
            if self._failed_since is None:
                self._failed_since, wait_s = now, BACK_OFF_S
            if now - self._failed_since > PATIENCE_S:
                raise SpiralError(f"no arena answers at {self._url} ({why}); start it, and play again") from why
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_BACK_OFF_S)
        return self._ended

    def _final(self, code: int, reason: str) -> None:
        if code == UNKNOWN:
            raise SpiralError(f"no player of the arena at {self._url} has this token; register, and keep what it gives")
        if reason == ELSEWHERE:
            raise SpiralError("another connection plays with the same token; give each program a player of its own")

    def _serve(self, socket: Any) -> None:
        """Answer what one connection asks, until the last match is over."""
        socket.send(json.dumps({"kind": "hello", "token": self._token}))
        while len(self._ended) < self._matches:
            message = json.loads(socket.recv())
            answer = self._heard(message, socket)
            if answer is not None:
                socket.send(json.dumps(answer))

    def _heard(self, message: dict[str, Any], socket: Any) -> dict[str, Any] | None:
        """What to answer. Raises SpiralError for what the arena refuses."""
        kind, queue = message["kind"], {"kind": "queue", "games": self._games}
        if kind == "welcome":
            self._failed_since = None
            if message["in_match"]:
                return None
            self._begun = {}  # a match that ended meanwhile is not among those that are returned
            return queue
        if kind == "match":
            self._begun, self._refused = message, ""
        elif kind == "illegal":
            self._refused = message["reason"]
        elif kind == "turn":
            return self._move(message, socket)
        elif kind == "over":
            self._ended.append(self._match(message))
            return queue if len(self._ended) < self._matches else None
        # With a match in play it says that a move came late, such as one from before the connection was lost: what is
        # asked now is asked again.
        elif kind == "error" and not self._begun and not message["reason"].startswith(PLAYS):
            raise SpiralError(f"the arena at {self._url} says: {message['reason']}")
        return None

    def _move(self, asked: dict[str, Any], socket: Any) -> dict[str, Any]:
        b = self._begun
        turn = Turn(
            b["match"], b["game"], b["seat"], tuple(b["players"]), b["rules"], asked["number"], asked["observation"],
            asked["legal_moves"], asked["clock_s"], self._refused,
        )  # fmt: skip
        self._refused = ""
        try:
            move = self._choose(turn)
        except BaseException:
            socket.send(json.dumps({"kind": "leave"}))  # or the opponent would wait until the clock has run out
            raise
        said = getattr(move, "reply", "")
        return {"kind": "move", "number": turn.number, "move": str(move)} | ({"said": said} if said else {})

    def _match(self, over: dict[str, Any]) -> Match:
        begun, self._begun = self._begun, {}
        ratings = {one["game"]: (float(one["after"][0]), float(one["after"][1])) for one in over["ratings"]}
        return Match(
            over["match"], begun["game"], begun["seat"], tuple(begun["players"]), over["outcome"],
            tuple(over["returns"]), over["ending"], ratings,
        )  # fmt: skip


def _base(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")
