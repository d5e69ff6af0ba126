"""The messages to each player, typed, and the three styles of an observation made from them.

TextArena hands out observations as a stream that is emptied by reading; a `Log` keeps them, so that `observe` can be
called for any player at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

Style = Literal["transcript", "messages", "board"]
"""`transcript`: the prompt and everything since, boards included; `messages`: the same, but of the boards only the
latest, at the end; `board`: the player's number and the latest board, nothing else. Where there is no board, `board`
shows what `messages` does."""

PROMPT, ACTION, BOARD, ADMIN = "PROMPT", "PLAYER_ACTION", "GAME_BOARD", "GAME_ADMIN"
GAME = -1


class Message(NamedTuple):
    """One message to a player."""

    sender: int
    """A player, or GAME."""
    text: str
    kind: str
    """The name of TextArena's ObservationType."""


class Log:
    """The messages to one player, in order."""

    def __init__(self, player: int) -> None:
        self.player = player
        self.messages: list[Message] = []
        self._lines: list[str] = []
        self._board: str | None = None

    def add(self, message: Message, sender: str) -> None:
        """`sender` is the name shown. A player's text is shown on one line, so that it cannot forge another."""
        text = message.text
        if message.kind == ACTION:
            text = " ".join(text.split())
        self.messages.append(message)
        self._lines.append(f"\n[{sender}] {text}")
        if message.kind == BOARD:
            self._board = text.strip("\n")

    def show(self, style: Style) -> str:
        """The observation."""
        if style == "transcript":
            return "".join(self._lines)
        if style == "board" and self._board is not None:
            return f"Player {self.player}\n{self._board}"
        lines = [line for line, m in zip(self._lines, self.messages, strict=True) if m.kind != BOARD]
        if self._board is not None:
            lines.append(f"\n{self._board}")
        return "".join(lines)

    def __deepcopy__(self, memo: dict[int, Any]) -> Log:
        # Messages never change, so a copy can share them.
        other = Log(self.player)
        other.messages, other._lines, other._board = self.messages.copy(), self._lines.copy(), self._board
        return other


def read(observation: Any) -> Message:
    """One of TextArena's observations, (sender, text, type).

    Three environments build it with the arguments in an old order, (type, sender, text).
    """
    sender, text, kind = observation
    if not isinstance(sender, int):
        sender, text, kind = text, kind, sender
    return Message(sender, str(text), kind.name)


def without_tags(action: str, tags: Iterable[str]) -> str:
    """The action as TextArena logs it: it removes every `[role]` from what players write."""
    for tag in tags:
        action = action.replace(f"[{tag}]", "")
    return action


def with_quoted_tags(action: str, tags: Iterable[str]) -> str:
    """The action with `(role)` for every `[role]`: nothing is lost, and no player can pose as another."""
    for tag in tags:
        action = action.replace(f"[{tag}]", f"({tag})")
    return action
