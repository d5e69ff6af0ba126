"""What TextArena's own client says and is told when it plays online, as the arena's messages; knows no sockets.

The protocol is that of textarena 0.7.4 (`textarena/api.py`), whose client is used as it is.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from spiral.api.errors import SpiralError
from spiral.arena.names import checked_name
from spiral.arena.room import MAX_ILLEGAL
from spiral.arena.store import NameTaken, Store

Message = Mapping[str, Any]
Messages = Callable[[int, int], Awaitable[Sequence[tuple[int, str, str]] | None]]
"""(match, seat) -> what that seat was told, as (sender, text, kind); None where the game keeps no messages."""

ENVIRONMENTS: Mapping[int, str] = {
    0: "Chess-v0", 3: "DontSayIt-v0", 6: "LiarsDice-v0", 8: "SimpleNegotiation-v0", 10: "SpellingBee-v0",
    35: "TicTacToe-v0", 51: "Othello-v0", 52: "PigDice-v0", 65: "Codenames-v0", 68: "Poker-v0",
    70: "Snake-v0-standard", 75: "SecretMafia-v0", 82: "ColonelBlotto-v0", 83: "ThreePlayerIPD-v0", 84: "SimpleTak-v0",
}  # fmt: skip
"""What the client's numbers mean, `make_mgc_online`'s too."""
GAME = -1
KINDS: Mapping[str, int] = {
    "PROMPT": 1, "PLAYER_ACTION": 2, "GAME_ACTION_DESCRIPTION": 3, "GAME_MESSAGE": 4, "GAME_BOARD": 5, "GAME_ADMIN": 6,
}  # fmt: skip
"""The values of its ObservationType."""
MAX_ACTION = 20_000
"""Characters of an action."""


def environment(game: str) -> str | None:
    """What the client calls a game of the arena: the end of its name, without arguments; None for other games."""
    name = game.partition("(")[0].rpartition("/")[2]
    return name if name in ENVIRONMENTS.values() else None


def asked_games(numbers: Iterable[object], games: Iterable[str]) -> list[str]:
    """The games of the arena that the client's numbers stand for. Raises SpiralError where there are none."""
    there = {game: name for game in games if (name := environment(game)) is not None}
    wanted = {ENVIRONMENTS.get(number) for number in numbers if isinstance(number, int)}
    found = [game for game, name in there.items() if name in wanted]
    if not found:
        asked = ", ".join(sorted(name for name in wanted if name)) or "no environment that is known"
        raise SpiralError(f"{asked} is not played here; there are: {', '.join(there.values()) or 'none'}")
    return found


def register(store: Store, told: Message) -> tuple[int, Message]:
    """The HTTP status and the answer to a registration. One with the same name and token may be made again."""
    token, description = told.get("model_token"), told.get("description")
    if not token:
        return 400, {"detail": "Model token is required"}
    try:
        token = str(UUID(str(token)))
    except ValueError:
        return 400, {"detail": "Invalid token format: it is a UUID"}
    try:
        name = checked_name(told.get("model_name"))
    except SpiralError as error:
        return 422, {"detail": str(error)}  # the client shows the text of an answer that it has no words for
    try:
        store.add_player_with_token(name, "model", token, str(description or "")[:500])
    except NameTaken:
        holder = store.player_by_token(token)
        if holder is None or holder.name != name:
            # A token follows from e-mail, name and agent; which of them differs is not known, since no e-mail is kept.
            return 409, {
                "detail": f"the name '{name}' is registered with a different token, so with another e-mail or agent"
            }
    return 200, {"model_token": token}


class GameTalk:
    """What the client is told of one match, and which turn its actions answer."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._begun: Message = {}
        self._turn: Message | None = None
        self._num_told = 0
        self._refusals: list[str] = []

    async def told(self, message: Message) -> list[Message]:
        """The client's words for a message of the arena; none for what it is not told."""
        kind = message["kind"]
        if kind == "match":
            self._begun = message
        elif kind == "turn":
            self._turn = message
            return [await self._observation(message["observation"])]
        elif kind == "illegal":
            self._refusals.append(f"Player {self._seat} attempted an invalid move. Reason: {message['reason']}")
        elif kind == "over":
            # Without an observation before it, the client has no player whose rating change it could keep.
            before = [] if self._num_told else [await self._observation(message["observation"])]
            return [*before, *self._end(message)]
        elif kind == "error":
            return [{"command": "error", "message": message["reason"]}]
        elif kind == "unreadable" and self._turn is not None:  # the client waits for an answer to its action
            self._refusals.append(message["reason"])
            return [await self._observation(self._turn["observation"])]
        elif kind in ("pong", "action_ack"):
            return [{"command": kind}]
        return []

    def answer(self, action: str) -> tuple[int, str] | None:
        """The number of the turn that an action answers, and the move in it; None while none is asked."""
        turn, self._turn = self._turn, None
        return None if turn is None else (turn["number"], move_in(action, turn["legal_moves"]))

    @property
    def _seat(self) -> int:
        return int(self._begun["seat"])

    async def _observation(self, observation: str) -> Message:
        """All that is new since the last one."""
        kept = await self._messages(self._begun["match"], self._seat)
        if kept is None:
            rows = [[GAME, observation, KINDS["GAME_MESSAGE"]]]
        else:
            new = kept[self._num_told :]
            rows = [[sender, text, KINDS.get(kind, KINDS["GAME_MESSAGE"])] for sender, text, kind in new]
        self._num_told += len(rows)
        rows += [[GAME, reason, KINDS["GAME_ADMIN"]] for reason in self._refusals]
        self._refusals.clear()
        # The client takes an empty list for none, and would wait for ever.
        rows = rows or [[GAME, "It is your turn.", KINDS["GAME_MESSAGE"]]]
        return {"command": "observation", "player_id": self._seat, "observation": rows}

    def _end(self, over: Message) -> list[Message]:
        reason, offender = over["ending"], over["offender"]
        reasons = {
            "finished": "the match ended by its rules",
            "illegal": f"Player {offender} made {MAX_ILLEGAL} invalid moves in a turn",
            "timeout": f"Player {offender} ran out of time",
            "left": f"Player {offender} gave up",
        }
        changes = [one for one in over["ratings"] if one["game"] == self._begun["game"]]
        ended = {
            "command": "game_over",
            "outcome": over["outcome"],
            "reason": f"the match is void: {reason}" if over["outcome"] == "voided" else reasons.get(reason, reason),
            "trueskill_change": sum(one["after"][0] - one["before"][0] for one in changes),
        }
        late = [{"command": "timed_out", "message": "your clock ran out"}]
        return [*(late if reason == "timeout" and offender == self._seat else []), ended]


def move_in(action: str, legal_moves: Sequence[str] | None) -> str:
    """The move of a reply: where moves can be listed, the legal one that it is, or that its first such part in square
    brackets is; else all of it. TextArena's environments search replies for their moves in the same way."""
    if legal_moves is None:
        return action
    legal = {_key(move): move for move in legal_moves}
    parts = [action, *re.findall(r"\[[^\[\]]*\]", action)]
    return next((legal[_key(part)] for part in parts if _key(part) in legal), action)


def _key(move: str) -> str:
    return re.sub(r"[\s,:;]+", " ", move.strip().strip("[]")).strip().casefold()
